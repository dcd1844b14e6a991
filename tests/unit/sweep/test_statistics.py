from itertools import chain, combinations, product

import numpy as np
import pytest
from scipy import stats

from aequa_lightning.errors import InputError
from aequa_lightning.sweep.statistics import average_ranks, bootstrap_interval, holm, signed_rank_test


def test_the_signed_rank_test_counts_signs() -> None:
    """Under the hypothesis all 2^n signs of the differences are equally likely."""
    differences = np.array([0.3, -0.1, 0.7, 0.2, -0.6, 1.1, 0.9, 0.4])
    ranks = stats.rankdata(abs(differences))
    middle = ranks.sum() / 2
    seen = abs(ranks[differences > 0].sum() - middle)
    extreme = [abs((ranks * signs).sum() - middle) >= seen - 1e-9 for signs in product([0, 1], repeat=8)]
    assert signed_rank_test(differences) == pytest.approx(np.mean(extreme))


def test_equal_accuracies_are_no_difference() -> None:
    assert signed_rank_test([0.0, 0.0, 0.1 + 0.2 - 0.3]) == 1.0
    noise = np.array([1, -1, 1]) * 1e-16
    assert signed_rank_test([*noise, 0.1, 0.2, 0.3, 0.4, 0.5]) == signed_rank_test([0.1, 0.2, 0.3, 0.4, 0.5])


def test_the_bootstrap_interval_agrees_with_scipy_and_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(0.4, 0.1, 60)
    low, high = bootstrap_interval(values, repeats=20_000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2))
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-3)
    half = 1.96 * values.std() / np.sqrt(60)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=2e-3)


@pytest.mark.parametrize("largest_first", [True, False])
def test_ranks_count_who_is_better(largest_first: bool) -> None:
    scores = np.random.default_rng(0).integers(0, 4, (30, 5)) / 10
    expected = np.zeros(5)
    for row in scores:
        for place, score in enumerate(row):
            better = sum(other > score if largest_first else other < score for other in row)
            expected[place] += 1 + better + (sum(other == score for other in row) - 1) / 2
    assert average_ranks(scores, largest_first=largest_first) == pytest.approx(expected / 30)


def test_an_undefined_score_ranks_last() -> None:
    for largest_first in (True, False):
        assert average_ranks([[np.nan, 0.1, np.nan]], largest_first=largest_first).tolist() == [2.5, 1.0, 2.5]


def test_holm_is_the_closed_test() -> None:
    """Rejecting one hypothesis takes rejecting every intersection with it, each by Bonferroni's test."""
    p_values = [0.012, 0.3, 0.004, 0.04, 0.012]
    indices = range(len(p_values))
    subsets = list(chain.from_iterable(combinations(indices, size) for size in range(1, len(p_values) + 1)))
    expected = [
        max(min(1.0, len(subset) * min(p_values[other] for other in subset)) for subset in subsets if index in subset)
        for index in indices
    ]
    assert holm(p_values) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[], [0.1, float("nan")]])
def test_what_cannot_be_compared(values: list[float]) -> None:
    for function in (signed_rank_test, bootstrap_interval):
        with pytest.raises(InputError, match="finite"):
            function(values)
    with pytest.raises(InputError, match="no setting"):
        average_ranks(np.zeros((0, 3)))
