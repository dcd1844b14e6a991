"""Fairness of an outcome: MCG, CGS and Pearson's correlation of contributions and received accuracies.

All functions take ``contributions`` (N,), the accuracies that participants reach alone, and ``accuracies`` (N,),
those of the models that they receive; both in the same unit, usually 0..1.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.errors import InputError


def gains(contributions: ArrayLike, accuracies: ArrayLike) -> NDArray[np.float64]:
    """Return what each participant gains by taking part: received minus contributed accuracy.

    Args:
        contributions: Accuracy alone, (N,).
        accuracies: Accuracy received, (N,).

    Returns:
        Gains, (N,).

    Raises:
        InputError: When the two differ in length, are empty or not finite.

    Example:
        >>> gains([0.25, 0.5], [0.75, 0.75]).tolist()
        [0.5, 0.25]
    """
    brought, received = _paired(contributions, accuracies)
    return received - brought


def mean_gain(contributions: ArrayLike, accuracies: ArrayLike) -> float:
    """Return the mean collaboration gain (MCG; Aequa, ICML 2025).

    Example:
        >>> mean_gain([0.25, 0.5], [0.75, 0.75])
        0.375
    """
    return float(gains(contributions, accuracies).mean())


def gain_spread(contributions: ArrayLike, accuracies: ArrayLike) -> float:
    """Return the collaboration gain spread (CGS; Aequa, ICML 2025): the population standard deviation of the gains.

    Example:
        >>> gain_spread([0.25, 0.5], [0.75, 0.75])
        0.125
    """
    return float(gains(contributions, accuracies).std())


def minimum_gain(contributions: ArrayLike, accuracies: ArrayLike) -> float:
    """Return the smallest gain of any participant.

    Example:
        >>> minimum_gain([0.25, 0.5], [0.75, 0.75])
        0.25
    """
    return float(gains(contributions, accuracies).min())


def gain_figures(standalone: ArrayLike | None, accuracies: ArrayLike) -> dict[str, float | None]:
    """Return ``mcg``, ``cgs`` and ``minimum_gain``; None each where the accuracies alone are not known.

    Example:
        >>> gain_figures([0.25, 0.5], [0.75, 0.75])
        {'mcg': 0.375, 'cgs': 0.125, 'minimum_gain': 0.25}
    """
    figures = {"mcg": mean_gain, "cgs": gain_spread, "minimum_gain": minimum_gain}
    return {name: None if standalone is None else figure(standalone, accuracies) for name, figure in figures.items()}


def pearson(contributions: ArrayLike, accuracies: ArrayLike) -> float | None:
    """Return Pearson's correlation of contributed and received accuracy, or None where it is undefined.

    It is undefined when either side is constant, as when everybody receives the same model. Units may differ.

    Example:
        >>> round(pearson([0.1, 0.2, 0.3], [0.4, 0.6, 0.8]), 12)
        1.0
        >>> pearson([0.1, 0.2, 0.3], [0.7, 0.7, 0.7]) is None
        True
    """
    brought, received = _paired(contributions, accuracies)
    if np.ptp(brought) == 0 or np.ptp(received) == 0:
        return None
    # Scaled to a range of 1, so that squares neither overflow nor underflow.
    first = (brought - brought.mean()) / np.ptp(brought)
    second = (received - received.mean()) / np.ptp(received)
    return float(np.clip(first @ second / np.sqrt((first @ first) * (second @ second)), -1.0, 1.0))


def _paired(contributions: ArrayLike, accuracies: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    brought, received = np.asarray(contributions, dtype=np.float64), np.asarray(accuracies, dtype=np.float64)
    if brought.ndim != 1 or brought.shape != received.shape or brought.size == 0:
        raise InputError(
            f"contributions of shape {brought.shape} and accuracies of shape {received.shape} do not pair up; "
            "give one number of each per participant."
        )
    if not (np.isfinite(brought).all() and np.isfinite(received).all()):
        raise InputError("contributions and accuracies must be finite; found NaN or infinity.")
    return brought, received
