"""Statistics that compare mechanisms over many settings: paired tests, intervals, ranks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from aequa_lightning.errors import InputError


def signed_rank_test(differences: ArrayLike) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test that paired differences are centred at zero.

    Pairs without a difference are left out, as Wilcoxon did (1945, "Individual comparisons by ranking methods"); where
    none is left, nothing speaks against zero and the value is 1.

    Args:
        differences: One number a pair, (pairs,).

    Raises:
        InputError: There is no pair, or a difference is not finite.

    Example:
        >>> signed_rank_test([1, 2, 3, 4, 5])  # all of one sign: 2 of the 2^5 signs are as extreme
        0.0625
    """
    values = _rounded(_finite(differences))
    values = values[values != 0]
    return float(stats.wilcoxon(values).pvalue) if len(values) else 1.0


def bootstrap_interval(
    values: ArrayLike, *, level: float = 0.95, repeats: int = 5000, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean (Efron 1979).

    Args:
        values: (samples,).
        level: Probability that the interval is to hold, in (0, 1).
        repeats: Resamples.
        seed: Source of all randomness.

    Raises:
        InputError: There is no value, or one is not finite.

    Example:
        >>> bootstrap_interval([0.5, 0.5, 0.5])
        (0.5, 0.5)
    """
    given = _finite(values)
    draws = np.random.default_rng(seed).integers(len(given), size=(repeats, len(given)))
    low, high = np.quantile(given[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def average_ranks(scores: ArrayLike, *, largest_first: bool = True) -> NDArray[np.float64]:
    """Return each mechanism's rank, averaged over settings; equal scores share the mean of their ranks.

    Source: Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006, section 3.2.1.

    Args:
        scores: (settings, mechanisms); NaN, an undefined score, ranks behind every other.
        largest_first: Whether the largest score has rank 1.

    Returns:
        (mechanisms,), from 1.

    Raises:
        InputError: There is no setting or no mechanism.

    Example:
        >>> average_ranks([[0.9, 0.8, 0.8], [0.9, 0.7, float("nan")]]).tolist()
        [1.0, 2.25, 2.75]
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not table.size:
        raise InputError(f"scores of shape {table.shape} hold no setting or no mechanism; give (settings, mechanisms).")
    keys = _rounded(np.where(np.isnan(table), np.inf, -table if largest_first else table))
    ranks: NDArray[np.float64] = stats.rankdata(keys, axis=1).mean(axis=0)
    return ranks


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values of several tests, raised so that the chance of any false alarm keeps its level.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.

    Args:
        p_values: Each in [0, 1].

    Example:
        >>> holm([0.5, 0.01, 0.02])
        [0.5, 0.03, 0.04]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values without the last digits, by which equal accuracies may come to differ."""
    return np.round(values, 12)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not len(array) or not np.isfinite(array).all():
        raise InputError(f"{array.tolist()} must hold at least one number, and finite ones only.")
    return array
