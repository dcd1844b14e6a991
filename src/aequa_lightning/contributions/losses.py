"""How alike a participant's losses are to the server's: what FedAVE makes of two series of batch losses."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def series_divergence(own: ArrayLike, servers: ArrayLike) -> float:
    """Return the Kullback-Leibler divergence of one series of losses from another, each scaled to sum 1, in nats.

    The longer series is cut to the length of the shorter one. A series of a single loss says nothing: infinity.

    Args:
        own: Mean losses of batches of a participant's data, (B,), >= 0.
        servers: The same of the server's validation part, (C,).

    Example:
        >>> round(series_divergence([1.0, 3.0], [1.0, 1.0, 9.0]), 4)
        0.1308
    """
    count = min(len(np.atleast_1d(own)), len(np.atleast_1d(servers)))
    if count < 2:
        return float("inf")
    # A loss of exactly 0 would make the divergence infinite.
    first, second = (np.maximum(np.asarray(one, dtype=np.float64)[:count], 1e-12) for one in (own, servers))
    first, second = first / first.sum(), second / second.sum()
    return float((first * np.log(first / second)).sum())


def loss_likeness(divergences: Sequence[float]) -> NDArray[np.float64]:
    """Return one over the divergence, relative to the most alike (FedAVE, Wang et al., 2024).

    Args:
        divergences: Of each participant's series of losses, (N,), >= 0; infinite without a series.

    Returns:
        In [0, 1], (N,); ones where nobody has a series.

    Example:
        >>> loss_likeness([0.1, 0.2, float("inf")]).tolist()
        [1.0, 0.5, 0.0]
    """
    inverse = 1 / np.maximum(np.asarray(divergences, dtype=np.float64), 1e-12)
    likeness: NDArray[np.float64] = inverse / inverse.max() if inverse.max() > 0 else np.ones_like(inverse)
    return likeness
