"""Objectives that are functions of two sums, and that one sweep therefore minimises exactly.

With offsets o and scales s, let d_i = x_i - o_i for the received accuracies x. The objective is f(L, Q) of L = sum
s_i d_i and Q = sum d_i^2. Each f here is quasi-concave where it matters, so its minimum over all allocations lies on
a vertex of the convex hull of their points (L, Q), that is where Q - 2 tau L is least for some tau: x_i is then the
level nearest to the target o_i + tau s_i.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.errors import InputError

Array = NDArray[np.float64]
SPREAD_OBJECTIVES = ("cv", "spread_minus_gain", "variance", "lexicographic")


@dataclass(frozen=True, eq=False)
class PlanarObjective:
    """An objective of the two sums.

    Attributes:
        offsets: o, one number per participant.
        scales: s, not negative, one number per participant.
        value: (L, Q) -> f, vectorised, to be minimised.
    """

    offsets: Array
    scales: Array
    value: Callable[[Array, Array], Array]


def spread_objective(name: str, contributions: Array, count: int, *, slope: float, lam: float) -> PlanarObjective:
    """Return an objective of the mean m and the standard deviation s of the gains x_i - slope c_i.

    ``cv`` is s / m (infinite unless m > 0), ``spread_minus_gain`` s - lam m, ``variance`` s^2 - lam m and
    ``lexicographic`` s, all with ties broken by the larger mean.

    Args:
        name: One of ``SPREAD_OBJECTIVES``.
        contributions: Contributions in accuracy units; one per participant or group of equal ones.
        count: Number of participants.
        slope: How much more accuracy one more unit of contribution deserves.
        lam: Weight of the mean gain, at least 0.

    Example:
        >>> objective = spread_objective("cv", np.array([0.2, 0.4]), 2, slope=1.0, lam=0.0)
        >>> gains = np.array([0.8, 0.8]) - objective.offsets
        >>> round(float(objective.value(gains.sum(), gains @ gains)), 6)  # mean 0.5, standard deviation 0.1
        0.2
    """

    def value(linear: Array, quadratic: Array) -> Array:
        mean = linear / count
        spread = np.sqrt(np.maximum(quadratic / count - mean**2, 0.0))
        if name == "cv":
            return np.divide(spread, mean, out=np.full(np.shape(mean), np.inf), where=mean > 0)
        return np.asarray(
            {"spread_minus_gain": spread - lam * mean, "variance": spread**2 - lam * mean}.get(name, spread)
        )

    if name not in SPREAD_OBJECTIVES:
        raise InputError(f"objective {name!r} is unknown; choose from {', '.join(SPREAD_OBJECTIVES)}.")
    return PlanarObjective(slope * contributions, np.ones_like(contributions), value)
