import json

import numpy as np
import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.rewards import allocate_widths, check_certificate
from aequa_lightning.rewards.allocation import parametric

CURVE = {0.25: 0.6, 0.5: 0.8, 1.0: 0.9}


def of_gains(name, gains, lam):
    """The objective of each row of gains, from its definition; no mean gain above 1e-6 counts as none."""
    mean, spread = gains.mean(axis=1), gains.std(axis=1)
    if name == "cv":
        return np.where(mean > 1e-6, spread / np.where(mean > 1e-6, mean, 1), np.inf)
    return {"spread_minus_gain": spread - lam * mean, "variance": spread**2 - lam * mean, "lexicographic": spread}[name]


def count_mismatches(name, cases, admissible, seed=0):
    rng = np.random.default_rng(seed)
    mismatches = 0
    for case in cases:
        slope, lam = [1.0, 0.5, 1.5, "auto"][rng.integers(4)], float(rng.choice([0, 0.1, 0.5, 1, 2]))
        allocation = allocate_widths(objective=name, slope=slope, lam=lam, **case)
        everything = admissible(case)
        values = of_gains(name, everything - allocation.slope * case["contributions"], lam)
        least = values.min()
        rounding = 1e-12 * max(1.0, abs(least))
        # Ties, and cases in which nobody gains, go to the largest mean.
        among = everything[values <= least + rounding] if np.isfinite(least) else everything
        best_mean = among.mean(axis=1).max()
        chosen = np.flatnonzero((everything == allocation.accuracies).all(axis=1))
        mismatches += not (
            len(chosen) > 0
            and values[chosen[0]] <= least + rounding
            and allocation.objective_value == pytest.approx(least, abs=1e-12, rel=1e-10)
            and allocation.accuracies.mean() >= best_mean - 1e-12
        )
    return mismatches


@pytest.mark.parametrize("name", ["cv", "spread_minus_gain", "variance", "lexicographic"])
def test_no_admissible_allocation_is_better(name, random_cases, admissible):
    assert count_mismatches(name, random_cases(600, seed=1), admissible) == 0


def test_brute_force_notices_a_search_that_skips_states(monkeypatch, random_cases, admissible):
    whole = parametric.sweep

    def half(problem, objective):
        states = whole(problem, objective)
        kept = np.arange(0, len(states.linear), 2)
        breaks = states.breaks[kept[1:] - 1]
        return parametric.Sweep(states.moves, breaks, states.linear[kept], states.quadratic[kept])

    monkeypatch.setattr(parametric, "sweep", half)
    assert count_mismatches("cv", random_cases(300, seed=1), admissible) > 50


def test_every_participant_has_the_accuracy_of_its_width():
    allocation = allocate_widths([0.3, 0.5, 0.6, 0.3], CURVE, floors=[0.0, 0.0, 0.0, 0.7])
    assert [CURVE[width] for width in allocation.widths] == allocation.accuracies.tolist()
    assert allocation.widths.tolist() == [0.5, 1.0, 1.0, 0.5]


def test_without_the_pin_the_top_may_receive_less():
    brought = [0.3, 0.4]
    assert allocate_widths(brought, {0.5: 0.7, 0.6: 0.8, 1.0: 0.99}).accuracies[1] == 0.99
    assert allocate_widths(brought, {0.5: 0.7, 0.6: 0.8, 1.0: 0.99}, pin_top=False).accuracies.tolist() == [0.7, 0.8]


def test_automatic_slope_lets_the_targets_fit():
    allocation = allocate_widths([0.1, 0.5, 0.9], {0.2: 0.75, 0.5: 0.85, 1.0: 0.95}, slope="auto")
    assert allocation.slope == pytest.approx(0.25)
    assert allocation.accuracies.tolist() == [0.75, 0.85, 0.95]
    assert allocation.pearson == pytest.approx(1.0)
    assert allocate_widths([0.5, 0.6], {0.2: 0.5, 1.0: 0.95}, slope="auto").slope == 1.0
    assert allocate_widths([0.5, 0.5], {0.2: 0.5, 1.0: 0.95}, slope="auto").slope == 1.0


def test_floor_that_nothing_meets_gets_the_full_width_and_is_flagged():
    allocation = allocate_widths([0.2, 0.5], CURVE, floors=[0.95, 0.1])
    assert allocation.widths.tolist() == [1.0, 1.0]
    assert allocation.certificate["unmet_floors"] == [0]
    assert "participant 0" in allocation.certificate["remarks"][0]


def test_no_positive_mean_gain_gives_the_largest_mean_and_says_so():
    allocation = allocate_widths([0.95, 0.97], CURVE)
    assert allocation.widths.tolist() == [1.0, 1.0]
    assert "no allocation has a positive mean gain" in allocation.certificate["remarks"][0]


def test_equal_contributions_leave_the_correlation_undefined():
    allocation = allocate_widths([0.5, 0.5, 0.5], CURVE)
    assert allocation.pearson is None
    assert allocation.widths.tolist() == [1.0, 1.0, 1.0]


def test_certificate_is_json_and_lists_what_is_not_offered():
    allocation = allocate_widths([0.2, 0.5], {0.5: 0.95, 1.0: 0.9})
    assert json.loads(json.dumps(allocation.certificate, allow_nan=False)) == allocation.certificate
    assert allocation.certificate["not_offered"] == [[0.5, 0.95, "better than the full width by 0.05"]]


def test_thousand_participants_are_proven_optimal():
    rng = np.random.default_rng(0)
    brought = rng.beta(2, 2, 1000) * 0.6 + 0.2
    curve = {(k + 1) / 10: float(level) for k, level in enumerate(np.sort(rng.uniform(0.3, 0.95, 10)))}
    for name in ("cv", "spread_minus_gain", "variance", "lexicographic"):
        allocation = allocate_widths(brought, curve, name)
        assert check_certificate(allocation, brought, curve) == []
        assert len(allocation.certificate["cuts"]) < 200


@pytest.mark.parametrize(
    ("keywords", "word"),
    [
        ({"contributions": []}, "shape"),
        ({"contributions": [[0.1]]}, "shape"),
        ({"contributions": [0.1, np.nan]}, r"participants \[1\]"),
        ({"contributions": [45.0, 80.0]}, "divide percentages by 100"),
        ({"floors": [0.1]}, "floors"),
        ({"floors": [0.1, np.nan]}, "floors"),
        ({"slope": -1.0}, "slope"),
        ({"slope": np.nan}, "slope"),
        ({"slope": "steep"}, "slope"),
        ({"lam": -0.5}, "lam"),
        ({"objective": "fastest"}, "choose from cv"),
        ({"accuracy_by_width": {2.0: 0.5}}, "width 2.0"),
    ],
)
def test_bad_input_is_named(keywords, word):
    with pytest.raises(InputError, match=word):
        allocate_widths(**{"contributions": [0.1, 0.2], "accuracy_by_width": CURVE, **keywords})
