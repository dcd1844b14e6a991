"""What participants deserve, and the offered width that pays it most closely."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.rewards.allocation.allocate import Allocation
from aequa_lightning.rewards.allocation.curve import Curve
from aequa_lightning.rewards.allocation.problem import Problem, build_problem

Array = NDArray[np.float64]
Rounding = Literal["no_better", "nearest"]

ROUNDINGS: dict[str, Rounding] = {"no better than deserved": "no_better", "nearest to what is deserved": "nearest"}
"""The roundings, by the name under which an allocation states them as its objective."""

# Rounding must not cost a width whose accuracy is exactly what is deserved.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class DeservedAccuracy:
    """The accuracy that a contribution deserves: ``reference - slope * (c_max - c_i)``.

    Attributes:
        reference: What the top contributor deserves, in [0, 1].
        slope: Accuracy that one more unit of contribution deserves, >= 0.
    """

    reference: float
    slope: float

    def of(self, contributions: ArrayLike) -> Array:
        """Return what everybody deserves, (N,).

        Example:
            >>> DeservedAccuracy(reference=0.75, slope=0.5).of([0.25, 0.75]).tolist()
            [0.5, 0.75]
        """
        brought: Array = np.asarray(contributions, dtype=np.float64)
        behind: Array = brought.max() - brought
        return self.reference - self.slope * behind


def deserved_accuracy(
    contributions: Sequence[float],
    curve: Curve,
    *,
    slope: float | Literal["auto"],
    standalone: Sequence[float] | None,
) -> DeservedAccuracy:
    """Return what contributions deserve, given what is on offer.

    Args:
        contributions: In any unit, (N,).
        curve: The widths on offer.
        slope: Accuracy that one more unit deserves, >= 0; ``auto``: ``min(1, (reference - lowest accuracy on offer) /
            (c_max - c_min))``.
        standalone: Accuracy in [0, 1] that each participant reaches alone, (N,); None: not known.

    Returns:
        The reference is the accuracy of the full width, or the best that anybody reaches alone, whichever is more.
    """
    reference = max([float(curve.accuracies[-1]), *(standalone or [])])
    if slope != "auto":
        return DeservedAccuracy(reference, float(slope))
    spread, reach = float(np.ptp(np.asarray(contributions))), reference - float(curve.accuracies[0])
    return DeservedAccuracy(reference, min(1.0, reach / spread) if spread > 0 else 1.0)


def levels_no_better(curve: Curve, deserved: Array) -> NDArray[np.int64]:
    """Return for each deserved accuracy the best offered level that is no better, or else the lowest.

    Example:
        >>> levels_no_better(Curve(np.array([0.5, 1.0]), np.array([0.5, 0.75]), ()), np.array([0.25, 0.625, 0.75]))
        array([0, 0, 1])
    """
    places = np.searchsorted(curve.accuracies, deserved + TOLERANCE, side="right") - 1
    return places.clip(min=0)


def levels_nearest(curve: Curve, deserved: Array) -> NDArray[np.int64]:
    """Return for each deserved accuracy the offered level that is nearest, of two the lower.

    Example:
        >>> levels_nearest(Curve(np.array([0.5, 1.0]), np.array([0.5, 0.75]), ()), np.array([0.25, 0.625, 0.6875]))
        array([0, 0, 1])
    """
    below = levels_no_better(curve, deserved)
    above = (below + 1).clip(max=len(curve.accuracies) - 1)
    nearer = curve.accuracies[above] - deserved < deserved - curve.accuracies[below] - TOLERANCE
    return np.where(nearer, above, below)


def pay_deserved(
    contributions: Sequence[float],
    accuracy_by_width: Mapping[float, float],
    due: DeservedAccuracy,
    *,
    rounding: Rounding,
    floors: Sequence[float] | None,
) -> Allocation:
    """Pay everybody the offered width that a rounding chooses, and no less than the floors where the curve allows it.

    Whoever contributed more never receives less, equal contributions receive the same, and the top contributor receives
    the full width. Where the rounding ends below a floor, the narrowest width that meets the floor is paid, even if it
    is better than deserved; a floor above the full width is paid the full width.

    The distance between the accuracy that is paid and the target (what is deserved, or the floor where that is more,
    within the range of the curve) is at most the step of the curve that the target lies in, and half of it for
    ``nearest`` where no floor lifts.

    Args:
        contributions: In any unit, (N,).
        accuracy_by_width: Accuracy in [0, 1] of each measured width; ``offered_widths`` says which are handed out.
        due: What they deserve.
        rounding: ``no_better``: the best width that is no better than deserved; ``nearest``: the nearest.
        floors: Accuracy that each participant must at least receive, (N,); None: no floors.

    Returns:
        The allocation. Its certificate holds the reference, the largest distance from a target (``largest_gap``) and
        the largest step of the curve (``largest_step``), which bounds it.

    Example:
        >>> curve = {0.25: 0.5, 0.5: 0.75, 1.0: 1.0}
        >>> brought = [0.375, 0.625, 0.75]
        >>> pay_deserved(brought, curve, DeservedAccuracy(1.0, 1.0), rounding="no_better", floors=None).widths.tolist()
        [0.25, 0.5, 1.0]
        >>> pay_deserved(
        ...     brought, curve, DeservedAccuracy(0.875, 1.0), rounding="no_better", floors=[0.625, 0, 0]
        ... ).widths.tolist()
        [0.5, 0.5, 1.0]
    """
    problem = build_problem(contributions, accuracy_by_width, floors=floors)
    choose = levels_no_better if rounding == "no_better" else levels_nearest
    levels = np.maximum(choose(problem.curve, due.of(problem.contributions)), problem.lowest)[problem.group]
    accuracies = problem.curve.accuracies[levels]
    gap, step = float(np.abs(accuracies - targets(problem, due, floors)).max()), largest_step(problem.curve)
    remarks = [
        f"what is paid differs from what is deserved by at most {gap:.4f}, the curve's largest step is {step:.4f}"
    ]
    remarks += [f"participant {index}: alone it is better than the full width" for index in problem.unmet_floors]
    return Allocation(
        contributions=problem.contributions[problem.group],
        widths=problem.curve.widths[levels],
        accuracies=accuracies,
        objective=next(name for name, kind in ROUNDINGS.items() if kind == rounding),
        objective_value=gap,
        slope=due.slope,
        certificate={
            "kind": "deserved",
            "reference": due.reference,
            "largest_gap": gap,
            "largest_step": step,
            "remarks": remarks,
        },
        curve=problem.curve,
        floors=None if floors is None else np.asarray(floors, dtype=np.float64),
    )


def targets(problem: Problem, due: DeservedAccuracy, floors: Sequence[float] | None) -> Array:
    """Return what everybody is to receive, within the range of the curve, (N,).

    That is what it deserves, or the largest floor of those who contributed no more, whichever is more.
    """
    deserved = due.of(problem.contributions)
    if floors is not None:
        highest = np.full(deserved.shape, -np.inf)
        np.maximum.at(highest, problem.group, np.asarray(floors, dtype=np.float64))
        deserved = np.maximum(deserved, np.maximum.accumulate(highest))
    return deserved.clip(problem.curve.accuracies[0], problem.curve.accuracies[-1])[problem.group]


def largest_step(curve: Curve) -> float:
    """Return the largest difference in accuracy between neighbouring widths on offer; 0 where there is one width.

    Example:
        >>> largest_step(Curve(np.array([0.25, 0.5, 1.0]), np.array([0.5, 0.75, 0.875]), ()))
        0.25
    """
    return float(np.diff(curve.accuracies).max(initial=0.0))
