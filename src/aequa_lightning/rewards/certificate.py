"""Check an allocation's optimality from the input alone, without trusting the search that found it.

A certificate of kind ``cuts`` holds values of tau (see ``objectives``). At each of them the least distance of any
admissible allocation to the targets is a sum of one minimum per participant and computed here directly. Between and
beyond them it is bounded by its concavity. Whatever the cuts are, this gives a lower bound of the objective; an
allocation that attains it is optimal.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.rewards.allocation import Allocation
from aequa_lightning.rewards.curve import offered_widths
from aequa_lightning.rewards.objectives import TargetObjective, spread_objective

Array = NDArray[np.float64]


def check_certificate(
    allocation: Allocation,
    contributions: ArrayLike,
    accuracy_by_width: Mapping[float, float],
    *,
    floors: ArrayLike | None = None,
    pin_top: bool = True,
    tolerance: float = 1e-9,
) -> list[str]:
    """Return what is wrong with an allocation; an empty list proves that it is admissible and optimal.

    Args:
        allocation: What ``allocate_widths`` returned.
        contributions: The contributions it was given, (N,).
        accuracy_by_width: The curve it was given.
        floors: The floors it was given.
        pin_top: As it was given.
        tolerance: Largest distance from the proven bound that counts as rounding.

    Example:
        >>> from dataclasses import replace
        >>> from aequa_lightning.rewards.allocation import allocate_widths
        >>> brought, curve = [0.3, 0.5, 0.6], {0.25: 0.6, 0.5: 0.8, 1.0: 0.9}
        >>> best = allocate_widths(brought, curve)
        >>> check_certificate(best, brought, curve)
        []
        >>> worse = replace(best, widths=np.array([0.5, 0.5, 1.0]), accuracies=np.array([0.8, 0.8, 0.9]))
        >>> check_certificate(worse, brought, curve)
        ['the objective is 0.25713, but the proven bound is 0']
    """
    brought = np.asarray(contributions, dtype=np.float64)
    received = allocation.accuracies
    faults = _rule_faults(allocation, brought, accuracy_by_width, floors, pin_top)
    objective = spread_objective(
        allocation.objective, brought, len(brought), slope=allocation.slope, lam=allocation.certificate["lam"]
    )
    value = objective.of_accuracies(received, np.ones(len(brought), dtype=np.int64))
    permitted = _permitted(brought, accuracy_by_width, floors, pin_top)
    bound = _lower_bound(objective, permitted, allocation.certificate["cuts"])
    if np.isinf(value):
        # Nobody can gain more than at full width. If even that is no positive mean gain, nothing else has one.
        attained = bool((received == permitted[0][-1]).all())
    else:
        attained = value <= bound + tolerance * max(1.0, abs(value))
    if not attained:
        faults.append(f"the objective is {value:.6g}, but the proven bound is {bound:.6g}")
    return faults


def _rule_faults(
    allocation: Allocation,
    brought: Array,
    accuracy_by_width: Mapping[float, float],
    floors: ArrayLike | None,
    pin_top: bool,
) -> list[str]:
    faults = []
    received = allocation.accuracies
    curve = offered_widths(accuracy_by_width)
    offered = dict(zip(curve.widths.tolist(), curve.accuracies.tolist(), strict=True))
    held = zip(allocation.widths.tolist(), received.tolist(), strict=True)
    if any(offered.get(width) != accuracy for width, accuracy in held):
        faults.append("somebody holds a width that is not on offer, or an accuracy that is not that width's")
    order = np.lexsort((received, brought))
    if (np.diff(received[order]) < 0).any():
        faults.append("somebody receives less than another who contributed less")
    if any(np.ptp(received[brought == contribution]) > 0 for contribution in np.unique(brought)):
        faults.append("equal contributions receive different widths")
    if floors is not None and (received < np.minimum(np.asarray(floors), curve.accuracies[-1])).any():
        faults.append("somebody receives less than the floor")
    if pin_top and (received[brought == brought.max()] < curve.accuracies[-1]).any():
        faults.append("a top contributor does not receive the full width")
    return faults


def _permitted(
    brought: Array, accuracy_by_width: Mapping[float, float], floors: ArrayLike | None, pin_top: bool
) -> tuple[Array, NDArray[np.bool_]]:
    """Return the levels and which of them each participant may hold, (N, M): order and symmetry close the floors."""
    levels = offered_widths(accuracy_by_width).accuracies
    required = np.full(brought.shape, -np.inf) if floors is None else np.asarray(floors, dtype=np.float64)
    order = np.argsort(brought, kind="stable")
    closed = np.maximum.accumulate(required[order])
    # Everybody takes over the largest floor among those who contributed at most as much, equals included.
    last_equal = np.searchsorted(brought[order], brought, side="right") - 1
    required = np.minimum(closed[last_equal], levels[-1])
    if pin_top:
        required = np.where(brought == brought.max(), levels[-1], required)
    return levels, levels >= required[:, None]


def _lower_bound(objective: TargetObjective, permitted: tuple[Array, NDArray[np.bool_]], cuts: list[float]) -> float:
    levels, allowed = permitted
    gains = levels - objective.offsets[:, None]
    scales = objective.scales[:, None]
    weighted = scales * gains
    least = float(np.where(allowed, weighted, np.inf).min(axis=1).sum())
    largest = float(np.where(allowed, weighted, -np.inf).max(axis=1).sum())

    taus = np.unique(cuts or [0.0])
    distances = np.array([np.where(allowed, (gains - tau * scales) ** 2, np.inf).min(axis=1).sum() for tau in taus])
    # Beyond the outermost cuts, the least and the largest L take the place of a neighbouring cut.
    outer, linear = taus[[0, -1]], np.array([least, largest])
    quadratic = distances[[0, -1]] + outer * (2 * linear - objective.norm * outer)
    beyond = objective.of_sums(linear, quadratic)
    between = objective.least_between(taus[:-1], taus[1:], distances[:-1], distances[1:])
    return float(np.concatenate((beyond, between)).min())
