"""Measures that need no round: the accuracy that each reaches alone, and how much data each holds."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.contributions.measure import Measure
from aequa_lightning.errors import InputError


def data_shares(samples: ArrayLike) -> NDArray[np.float64]:
    """Return each participant's share of all samples.

    Args:
        samples: Number of samples, (N,), not negative.

    Returns:
        Shares, (N,), summing to 1.

    Example:
        >>> data_shares([30, 10]).tolist()
        [0.75, 0.25]
    """
    counts = np.asarray(samples, dtype=np.float64)
    if counts.ndim != 1 or not (np.isfinite(counts).all() and (counts >= 0).all() and counts.sum() > 0):
        raise InputError(f"samples are {counts.tolist()}; give one number per participant, not negative, not all zero.")
    return np.asarray(counts / counts.sum())


def standalone_accuracies(accuracies: ArrayLike) -> NDArray[np.float64]:
    """Return the accuracies that participants reach alone, as they are.

    Example:
        >>> standalone_accuracies([0.5, 0.25]).tolist()
        [0.5, 0.25]
    """
    return np.asarray(accuracies, dtype=np.float64)


STANDALONE = Measure("standalone", "the accuracy that each reaches alone", ("standalone",), standalone_accuracies)
DATA_SHARE = Measure("data_share", "the share of the samples that each holds", ("samples",), data_shares)
