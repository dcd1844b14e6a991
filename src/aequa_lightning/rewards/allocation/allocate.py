"""Which width for whom: the exact minimum of a chosen objective over every fair allocation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.allocation import fairness
from aequa_lightning.rewards.allocation.curve import Curve
from aequa_lightning.rewards.allocation.problem import Problem, build_problem
from aequa_lightning.rewards.allocation.solve import solve


@dataclass(frozen=True, eq=False)
class Allocation:
    """What everybody receives, how fair that is, and the proof that no admissible allocation is better.

    Attributes:
        contributions: Contribution of each participant, (N,).
        widths: Width of each participant, (N,).
        accuracies: Accuracy of that width, (N,).
        objective: Its name.
        objective_value: Its value here.
        slope: The slope that was used.
        certificate: Plain values that ``check_certificate`` needs for its proof, and remarks for the reader.
        curve: The widths on offer.
        floors: Accuracy that each participant had to receive at least, (N,); None: no floors.
        pin_top: Whether all top contributors had to receive the full width.
        lam: Weight of the mean gain.
    """

    contributions: NDArray[np.float64]
    widths: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    objective: str
    objective_value: float
    slope: float
    certificate: dict[str, Any]
    curve: Curve
    floors: NDArray[np.float64] | None = None
    pin_top: bool = True
    lam: float = 0.5

    @property
    def mcg(self) -> float:
        """Mean collaboration gain."""
        return fairness.mean_gain(self.contributions, self.accuracies)

    @property
    def cgs(self) -> float:
        """Collaboration gain spread."""
        return fairness.gain_spread(self.contributions, self.accuracies)

    @property
    def pearson(self) -> float | None:
        """Correlation of contribution and accuracy; None where undefined."""
        return fairness.pearson(self.contributions, self.accuracies)

    @property
    def minimum_gain(self) -> float:
        """Smallest gain of any participant."""
        return fairness.minimum_gain(self.contributions, self.accuracies)


def allocate_widths(
    contributions: ArrayLike,
    accuracy_by_width: Mapping[float, float],
    objective: str = "cv",
    *,
    slope: float | str = 1.0,
    lam: float = 0.5,
    floors: ArrayLike | None = None,
    pin_top: bool = True,
) -> Allocation:
    """Give every participant a width, exactly optimal for the objective.

    Every allocation considered keeps the order (who contributed more never receives less), treats equals equally,
    meets the floors and, if ``pin_top``, gives all top contributors the full width. The default minimises the spread of
    the gains relative to their mean (CGS / MCG; Aequa, ICML 2025, section 4.2).

    With x the received accuracies and the gains x_i - slope c_i, whose mean is m and whose standard deviation is s:

    ====================== ==========================================================================================
    ``cv``                 least s / m
    ``spread_minus_gain``  least s - lam m
    ``variance``           least s^2 - lam m
    ``lexicographic``      least s, then largest m
    ``proportional``       largest cosine of x and c, the scale being free
    ``pearson``            largest correlation of x and c; scale free, so it may starve people
    ``nash``               largest product of the gains x_i - c_i: the full width for everybody
    ``full``               the full width for everybody
    ====================== ==========================================================================================

    Ties go to the larger mean gain (``pearson``: among the allocations that the search came upon). Where nobody
    contributed anything, ``proportional`` has nothing to tell allocations by, and everybody receives the full width.

    Args:
        contributions: Contributions, (N,), in accuracy units 0..1; in any unit for ``proportional`` and ``pearson``.
        accuracy_by_width: Accuracy (0..1) of each measured width (0..1]; ``offered_widths`` says which are handed out.
        objective: One of the above.
        slope: Accuracy that one more unit of contribution deserves: 1 means equal gains, more rewards effort
            progressively; ``auto`` is the largest up to 1 whose targets the curve can reach.
        lam: Weight of the mean gain in ``spread_minus_gain`` and ``variance``, at least 0.
        floors: Accuracy that each participant must at least receive, (N,); none by default. A floor above the full
            width's accuracy gets the full width, and the certificate says so.
        pin_top: Whether all top contributors receive the full width.

    Returns:
        The allocation with its certificate.

    Raises:
        InputError: When a shape does not fit, a number is out of range, or the objective is unknown.

    Example:
        >>> allocation = allocate_widths([0.3, 0.5, 0.6], {0.25: 0.6, 0.5: 0.8, 1.0: 0.9})
        >>> allocation.widths.tolist(), round(allocation.mcg, 6), round(allocation.cgs, 6)
        ([0.25, 0.5, 1.0], 0.3, 0.0)
    """
    if not lam >= 0:
        raise InputError(f"lam is {lam}, but must be at least 0.")
    problem = build_problem(contributions, accuracy_by_width, floors=floors, pin_top=pin_top)
    number = resolve_slope(slope, problem)
    solution = solve(problem, objective, slope=number, lam=lam)
    chosen = solution.levels[problem.group]
    unmet = [
        f"participant {index}: the floor lies above the full width's accuracy; it receives the full width"
        for index in problem.unmet_floors
    ]
    return Allocation(
        contributions=problem.contributions[problem.group],
        widths=problem.curve.widths[chosen],
        accuracies=problem.curve.accuracies[chosen],
        objective=objective,
        objective_value=solution.value,
        slope=number,
        certificate={
            **solution.proof,
            "unmet_floors": list(problem.unmet_floors),
            "not_offered": [list(inversion) for inversion in problem.curve.inversions],
            "remarks": [*solution.remarks, *unmet],
        },
        curve=problem.curve,
        floors=None if floors is None else np.asarray(floors, dtype=np.float64),
        pin_top=pin_top,
        lam=lam,
    )


def resolve_slope(slope: float | str, problem: Problem) -> float:
    """Return the slope as a number; ``auto`` is min(1, (a_full - a_lowest) / (c_max - c_min)).

    Example:
        >>> resolve_slope("auto", build_problem([0.0, 1.0], {0.5: 0.5, 1.0: 0.75}))
        0.25
    """
    if slope == "auto":
        reach = float(problem.curve.accuracies[-1] - problem.curve.accuracies[0])
        needed = float(problem.contributions[-1] - problem.contributions[0])
        return min(1.0, reach / needed) if needed > 0 else 1.0
    check_slope(slope)
    return float(slope)


def check_slope(slope: float | str) -> None:
    """Prove that a slope is ``auto`` or a number that can be used.

    Raises:
        InputError: It is not.

    Example:
        >>> check_slope("auto"), check_slope(1.5)
        (None, None)
    """
    if slope != "auto" and (isinstance(slope, str) or not 0 <= slope < np.inf):
        raise InputError(f"slope is {slope!r}; give a finite number of at least 0, or 'auto'.")
