"""The rules of an allocation, participant by participant: written down a second time, for checking."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.rewards.allocation.curve import offered_widths

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Feasible:
    """What each participant may receive.

    Attributes:
        contributions: Contributions, (N,).
        widths: Widths on offer, ascending, (M,).
        levels: Their accuracies, ascending, (M,).
        allowed: Which of them each participant may hold, (N, M).
    """

    contributions: Array
    widths: Array
    levels: Array
    allowed: NDArray[np.bool_]

    def least_sum(self, costs: Array) -> float:
        """Return the least sum of costs of any admissible allocation.

        The costs must be such that higher contributions never prefer lower levels more than others do (squared
        distances to rising targets, say): then the order costs nothing, and each participant counts alone.

        Args:
            costs: Cost of each level for each participant, (N, M).
        """
        return float(np.where(self.allowed, costs, np.inf).min(axis=1).sum())


def feasible_choices(
    contributions: Array,
    accuracy_by_width: Mapping[float, float],
    *,
    floors: ArrayLike | None,
    pin_top: bool,
) -> Feasible:
    """Say what each participant may hold: order and symmetry pass floors on to whoever contributed at least as much.

    Example:
        >>> curve = {0.5: 0.6, 1.0: 0.9}
        >>> feasible = feasible_choices(np.array([0.3, 0.2]), curve, floors=[0, 0.7], pin_top=False)
        >>> feasible.allowed.tolist()
        [[False, True], [False, True]]
    """
    curve = offered_widths(accuracy_by_width)
    full = curve.accuracies[-1]
    required = np.full(contributions.shape, -np.inf) if floors is None else np.asarray(floors, dtype=np.float64)
    order = np.argsort(contributions, kind="stable")
    closed = np.maximum.accumulate(required[order])
    last_equal = np.searchsorted(contributions[order], contributions, side="right") - 1
    required = np.minimum(closed[last_equal], full)
    if pin_top:
        required = np.where(contributions == contributions.max(), full, required)
    allowed = curve.accuracies >= required[:, None]
    return Feasible(contributions, curve.widths, curve.accuracies, allowed)


def rule_faults(widths: Array, accuracies: Array, feasible: Feasible) -> list[str]:
    """Return which rules an allocation breaks, in words.

    Example:
        >>> feasible = feasible_choices(np.array([0.3, 0.2]), {0.5: 0.6, 1.0: 0.9}, floors=None, pin_top=True)
        >>> rule_faults(np.array([0.5, 1.0]), np.array([0.6, 0.9]), feasible)
        ['somebody receives less than the rules grant', 'somebody receives less than another who contributed less']
    """
    faults = []
    contributions = feasible.contributions
    level = np.searchsorted(feasible.levels, accuracies).clip(max=len(feasible.levels) - 1)
    if (feasible.levels[level] != accuracies).any() or (feasible.widths[level] != widths).any():
        faults.append("somebody holds a width that is not on offer, or an accuracy that is not that width's")
    elif not feasible.allowed[np.arange(len(level)), level].all():
        faults.append("somebody receives less than the rules grant")
    order = np.lexsort((accuracies, contributions))
    if (np.diff(accuracies[order]) < 0).any():
        faults.append("somebody receives less than another who contributed less")
    if any(np.ptp(accuracies[contributions == contribution]) > 0 for contribution in np.unique(contributions)):
        faults.append("equal contributions receive different widths")
    return faults
