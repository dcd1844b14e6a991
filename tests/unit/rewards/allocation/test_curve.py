from itertools import pairwise

import numpy as np
import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.rewards import offered_widths, refine


@pytest.mark.parametrize("seed", range(200))
def test_offered_widths_rise_and_every_other_width_has_its_reason(seed):
    rng = np.random.default_rng(seed)
    widths = np.unique(rng.uniform(0.05, 1, rng.integers(1, 9)).round(2))
    measured = {float(width): float(rng.random().__round__(1)) for width in widths}
    curve = offered_widths(measured)
    assert curve.widths[-1] == max(measured)
    assert (np.diff(curve.widths) > 0).all()
    assert (np.diff(curve.accuracies) > 0).all()
    offered = dict(zip(curve.widths, curve.accuracies, strict=True))
    assert offered.items() <= measured.items()
    assert {width: accuracy for width, accuracy, _ in curve.inversions} == {
        width: accuracy for width, accuracy in measured.items() if width not in offered
    }
    full = measured[max(measured)]
    for width, accuracy, reason in curve.inversions:
        if accuracy > full:
            assert "better than the full width" in reason
        elif "worse than the narrower" in reason:
            assert any(other < width and accuracy < level <= full for other, level in measured.items())
        else:
            assert "as good as the wider" in reason
            assert any(other > width and level == accuracy for other, level in offered.items())


def test_narrower_width_that_is_better_is_kept_and_the_worse_wider_one_is_not():
    curve = offered_widths({0.25: 0.7, 0.5: 0.6, 0.75: 0.7, 1.0: 0.9})
    assert curve.widths.tolist() == [0.75, 1.0]
    assert [width for width, _, _ in curve.inversions] == [0.25, 0.5]


def test_flat_curve_offers_only_the_full_width():
    assert offered_widths({0.5: 0.9, 1.0: 0.9}).widths.tolist() == [1.0]


@pytest.mark.parametrize(
    ("measured", "word"),
    [
        ({}, "empty"),
        ({0.0: 0.5}, "width 0.0"),
        ({1.5: 0.5}, "width 1.5"),
        ({1.0: np.nan}, "nan"),
        ({1.0: 87.0}, "87.0"),
    ],
)
def test_bad_curves_are_named(measured, word):
    with pytest.raises(InputError, match=word):
        offered_widths(measured)
    with pytest.raises(InputError, match=word):
        refine(measured, [1.0], 0.01)


@pytest.mark.parametrize("seed", range(30))
def test_refinement_ends_with_no_steep_pair_that_has_something_between(seed):
    rng = np.random.default_rng(seed)
    distinct = [(k + 1) / 64 for k in range(64)]
    knee, noise = rng.uniform(0.1, 0.9), rng.normal(0, 0.003, 64)
    truth = {width: float(np.clip(min(width / knee, 1) * 0.9 + noise[k], 0, 1)) for k, width in enumerate(distinct)}
    curve = {width: truth[width] for width in (distinct[7], distinct[31], distinct[63])}
    while widths := refine(curve, distinct, 0.02):
        assert not set(widths) & set(curve)
        curve |= {width: truth[width] for width in widths}
    for narrow, wide in pairwise(sorted(curve)):
        assert abs(curve[narrow] - curve[wide]) <= 0.02 or distinct.index(wide) - distinct.index(narrow) == 1
    if knee < 0.5:
        assert len(curve) < len(distinct)  # the flat part is not measured


def test_refinement_takes_the_middle_by_rank_not_by_width():
    assert refine({0.1: 0.1, 1.0: 0.9}, [0.1, 0.11, 0.12, 0.13, 1.0], 0.01) == [0.12]


def test_negative_resolution_is_refused():
    with pytest.raises(InputError, match="resolution"):
        refine({1.0: 0.5}, [1.0], -0.1)
