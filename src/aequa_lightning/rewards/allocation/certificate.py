"""Check an allocation's optimality from the input alone, without trusting the search that found it.

* ``cuts`` are values of tau (see ``objectives``). At each of them the least distance of any admissible allocation to
  the targets is computed directly; between and beyond them it is bounded by its concavity. Whatever the cuts are, this
  gives a lower bound of the objective; an allocation that attains it is optimal.
* ``triangles``: the plane of ``correlation`` is covered again, from values computed participant by participant.
* ``full``: the full width for everybody maximises every gain.
* ``deserved``: what each participant deserves is computed again, and no width that the rules allow pays it better.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.rewards.allocation.allocate import Allocation
from aequa_lightning.rewards.allocation.correlation import Plane, cover
from aequa_lightning.rewards.allocation.curve import offered_widths
from aequa_lightning.rewards.allocation.deserved import ROUNDINGS, TOLERANCE
from aequa_lightning.rewards.allocation.fairness import pearson
from aequa_lightning.rewards.allocation.feasibility import Feasible, feasible_choices, rule_faults
from aequa_lightning.rewards.allocation.objectives import spread_objective
from aequa_lightning.rewards.allocation.solve import OBJECTIVES, proportional_objective

Array = NDArray[np.float64]
# Whether the allocation is as good as its bound, its value, and the bound.
Verdict = tuple[bool, float, float]


def check_certificate(
    allocation: Allocation,
    contributions: ArrayLike,
    accuracy_by_width: Mapping[float, float],
    *,
    floors: ArrayLike | None = None,
    pin_top: bool = True,
    lam: float = 0.5,
    tolerance: float = 1e-7,
) -> list[str]:
    """Return what is wrong with an allocation; an empty list proves that it is admissible and optimal.

    Args:
        allocation: What ``allocate_widths`` returned.
        contributions: The contributions it was given, (N,).
        accuracy_by_width: The curve it was given.
        floors: The floors it was given.
        pin_top: As it was given.
        lam: As it was given.
        tolerance: Largest distance from the proven bound that counts as rounding (of a standard deviation near 0, say).

    Example:
        >>> from dataclasses import replace
        >>> from aequa_lightning.rewards.allocation.allocate import allocate_widths
        >>> brought, curve = [0.3, 0.5, 0.6], {0.25: 0.6, 0.5: 0.8, 1.0: 0.9}
        >>> best = allocate_widths(brought, curve)
        >>> check_certificate(best, brought, curve)
        []
        >>> worse = replace(best, widths=np.array([0.5, 0.5, 1.0]), accuracies=np.array([0.8, 0.8, 0.9]))
        >>> check_certificate(worse, brought, curve)
        ['the objective is 0.25713, but the proven bound is 0']
    """
    brought = np.asarray(contributions, dtype=np.float64)
    feasible = feasible_choices(brought, accuracy_by_width, floors=floors, pin_top=pin_top)
    faults = rule_faults(allocation.widths, allocation.accuracies, feasible)
    if allocation.objective in ROUNDINGS:
        return faults + _deserved_faults(allocation, feasible)
    if allocation.objective not in OBJECTIVES:
        return [*faults, f"objective {allocation.objective!r:.80} has no proof"]
    # The objective says what has to be proven; a damaged certificate must not choose an easier proof.
    if allocation.certificate.get("kind") == "undefined" and allocation.objective in ("proportional", "pearson"):
        verdict = _undefined(allocation, brought, feasible)
    elif allocation.objective == "pearson":
        verdict = _by_triangles(allocation, brought, feasible, tolerance)
    elif allocation.objective in ("nash", "full"):
        verdict = _full(allocation, feasible)
    else:
        verdict = _by_cuts(allocation, brought, feasible, lam, tolerance)
    attained, value, bound = verdict
    if not attained:
        faults.append(f"the objective is {value:.6g}, but the proven bound is {bound:.6g}")
    return faults


def check_payout(
    allocation: Allocation, accuracy_by_width: Mapping[float, float], *, unpaid: Collection[int]
) -> list[str]:
    """Return what is wrong with the allocation of a run by its own rules; see :func:`check_certificate`.

    Participants who are not paid hold the narrowest width on offer, and are no part of the proof. A rule that has no
    certificate, such as one that decides in every round, proves nothing and has no faults.

    Args:
        allocation: Of all N participants.
        accuracy_by_width: Validation accuracy in [0, 1] of every measured width.
        unpaid: Indices of those who are not paid.

    Example:
        >>> from aequa_lightning.rewards.allocation.allocate import allocate_widths
        >>> curve = {0.5: 0.75, 1.0: 1.0}
        >>> told = allocate_widths([0.25, 0.5], curve)
        >>> told.widths.tolist(), check_payout(told, curve, unpaid=[])
        ([0.5, 1.0], [])
        >>> check_payout(replace(told, floors=np.array([0.875, 0.0])), curve, unpaid=[])[0]
        'somebody receives less than the rules grant'
    """
    if allocation.objective not in {*OBJECTIVES, *ROUNDINGS}:
        return []
    everybody = range(len(allocation.widths))
    paid = [index for index in everybody if index not in unpaid] or list(everybody)
    others = [index for index in everybody if index not in paid]
    brought = allocation.contributions[paid]
    if allocation.objective == "proportional":
        # A negative contribution counts as none.
        brought = brought.clip(min=0)
    faults = check_certificate(
        replace(allocation, widths=allocation.widths[paid], accuracies=allocation.accuracies[paid]),
        brought,
        accuracy_by_width,
        floors=None if allocation.floors is None else allocation.floors[paid],
        pin_top=allocation.pin_top,
        lam=allocation.lam,
    )
    if (allocation.widths[others] != offered_widths(accuracy_by_width).widths[0]).any():
        faults.append("somebody who is not paid holds more than the narrowest width")
    return faults


def _deserved_faults(allocation: Allocation, feasible: Feasible) -> list[str]:
    """Say where another width that the rules allow pays what is deserved better, participant by participant."""
    reference, brought = float(allocation.certificate["reference"]), feasible.contributions
    if reference < feasible.levels[-1]:
        return [f"the top contributor deserves {reference:.6g}, less than the full width"]
    faults, no_better = [], ROUNDINGS[allocation.objective] == "no_better"
    rows = zip(brought, allocation.accuracies, feasible.allowed, strict=True)
    for index, (contribution, received, allowed) in enumerate(rows):
        deserved = reference - allocation.slope * (brought.max() - contribution)
        levels = feasible.levels[allowed]
        # What is better than deserved is paid only where nothing else is allowed, and then the least of it.
        costs = [deserved - level if level <= deserved + TOLERANCE else np.inf for level in levels]
        if not no_better:
            costs = [abs(level - deserved) for level in levels]
        best = levels[int(np.argmin(costs))]
        if abs(best - received) > TOLERANCE and (
            no_better or abs(abs(best - deserved) - abs(received - deserved)) > 1e-7
        ):
            faults.append(f"participant {index} deserves {deserved:.6g}: the rule pays {best:.6g}, not {received:.6g}")
    return faults


def _by_cuts(allocation: Allocation, brought: Array, feasible: Feasible, lam: float, tolerance: float) -> Verdict:
    everybody = np.ones(len(brought), dtype=np.int64)
    if allocation.objective == "proportional":
        objective = proportional_objective(brought, everybody)
    else:
        objective = spread_objective(allocation.objective, brought, len(brought), slope=allocation.slope, lam=lam)
    value = objective.of_accuracies(allocation.accuracies, everybody)
    gains = feasible.levels - objective.offsets[:, None]
    scales = objective.scales[:, None]
    least, largest = feasible.least_sum(scales * gains), -feasible.least_sum(-scales * gains)
    taus = np.unique(allocation.certificate.get("cuts") or [0.0])
    distances = np.array([feasible.least_sum((gains - tau * scales) ** 2) for tau in taus])
    between = objective.least_between(taus[:-1], taus[1:], distances[:-1], distances[1:])
    below = objective.least_beyond(taus[0], distances[0], least, upwards=False)
    above = objective.least_beyond(taus[-1], distances[-1], largest, upwards=True)
    bound = min(float(between.min(initial=np.inf)), below, above)
    if np.isinf(value):
        # Nobody can gain more than that. If even this is no positive mean gain, nothing else has one.
        received = float(objective.scales @ (allocation.accuracies - objective.offsets))
        return received >= largest - tolerance and largest <= len(brought) * tolerance, value, bound
    return value <= bound + tolerance * max(1.0, abs(value)), value, bound


def _by_triangles(allocation: Allocation, brought: Array, feasible: Feasible, tolerance: float) -> Verdict:
    """Cover the plane of ``correlation`` again, with h computed participant by participant."""
    levels = feasible.levels - feasible.levels.mean()
    centred = brought - brought.mean()
    plane = Plane(centred, np.ones(len(brought), dtype=np.int64), (levels[1:] + levels[:-1]) / 2)
    value = pearson(brought, allocation.accuracies) or 0.0

    def support(corners: Array, origins: Array) -> Array:
        found = []
        for triangle, origin in zip(corners, origins, strict=True):
            shifted = levels - origin
            for alpha, beta in zip(*plane.lines(triangle, origin), strict=True):
                found.append(feasible.least_sum(beta * shifted**2 - 2 * np.outer(centred - alpha, shifted)))
        return np.array(found).reshape(len(corners), 3)

    # With at most one threshold among the contributions, there are two neighbouring levels, raised to the rules.
    least = np.inf
    lowest = np.where(feasible.allowed, feasible.levels, np.inf).min(axis=1)
    for cut in np.append(np.unique(brought), np.inf):
        for lower, upper in pairwise(feasible.levels):
            received = np.maximum(lowest, np.where(brought >= cut, upper, lower))
            least = min(least, 1 - (pearson(brought, received) or 0.0) ** 2)
    target = min(least, 1 - value**2)
    if len(levels) > 2:
        target, _ = cover(plane, support, lambda: min(least, 1 - value**2 - tolerance))
    bound = float(np.sqrt(1 - target))
    return value >= bound - tolerance, value, bound


def _full(allocation: Allocation, feasible: Feasible) -> Verdict:
    """Everybody at full width has the largest gains."""
    value, full = float(allocation.accuracies.min()), float(feasible.levels[-1])
    return value == full, value, full


def _undefined(allocation: Allocation, brought: Array, feasible: Feasible) -> Verdict:
    """Where no admissible allocation has the figure, everybody is promised the full width."""
    attained, value, full = _full(allocation, feasible)
    no_choice = np.ptp(brought) == 0 or not feasible.allowed[:, :-1].any()
    return bool(attained and no_choice), value, full
