"""Contribution by amount: who holds how much."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
