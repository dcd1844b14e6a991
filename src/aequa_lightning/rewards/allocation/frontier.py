"""The trade of mean gain against spread: what else could have been chosen."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.allocation.allocate import resolve_slope
from aequa_lightning.rewards.allocation.objectives import spread_objective
from aequa_lightning.rewards.allocation.parametric import sweep
from aequa_lightning.rewards.allocation.problem import build_problem

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frontier:
    """Allocations of which none has both a higher mean gain and a lower spread; both rise along it.

    Attributes:
        mean_gains: Mean of the gains x_i - slope c_i, (F,).
        spreads: Their standard deviation, (F,).
        widths: Width of each participant, (F, N).
    """

    mean_gains: Array
    spreads: Array
    widths: Array


def pareto_front(
    contributions: ArrayLike,
    accuracy_by_width: Mapping[float, float],
    *,
    slope: float | str = 1.0,
    floors: ArrayLike | None = None,
    pin_top: bool = True,
    most_points: int = 200,
) -> Frontier:
    """Return the front of mean gain against spread.

    These are the allocations that are best for some trade-off of the mean against the mean square (the *supported*
    ones): every optimum of ``cv``, ``spread_minus_gain``, ``variance`` and ``lexicographic`` is among them, for every
    ``lam``.

    Args:
        contributions: Contributions in accuracy units, (N,).
        accuracy_by_width: Accuracy (0..1) of each measured width (0..1].
        slope: See ``allocate_widths``.
        floors: See ``allocate_widths``.
        pin_top: See ``allocate_widths``.
        most_points: Evenly thinned to about so many, keeping both ends; at least 2.

    Raises:
        InputError: On bad input, as ``allocate_widths`` does.

    Example:
        >>> front = pareto_front([0.3, 0.5, 0.6], {0.25: 0.6, 0.5: 0.8, 1.0: 0.9})
        >>> front.mean_gains.round(3).tolist(), front.spreads.round(3).tolist()
        ([0.3, 0.333, 0.4, 0.433], [0.0, 0.047, 0.082, 0.125])
    """
    if most_points < 2:
        raise InputError(f"most_points is {most_points}; a front has two ends.")
    problem = build_problem(contributions, accuracy_by_width, floors=floors, pin_top=pin_top)
    count = len(problem.group)
    objective = spread_objective(
        "lexicographic", problem.contributions, count, slope=resolve_slope(slope, problem), lam=0.0
    )
    states = sweep(problem, objective)
    means = states.linear / count
    spreads = objective.of_sums(states.linear, states.quadratic)
    # The mean rises with tau: whoever has a larger mean and no larger spread dominates.
    best_later = np.minimum.accumulate(spreads[::-1])[::-1]
    kept = np.flatnonzero(np.append(spreads[:-1] < best_later[1:], True))
    if len(kept) > most_points:
        kept = kept[np.unique(np.linspace(0, len(kept) - 1, most_points).round().astype(int))]
    taus = np.concatenate(([-np.inf], states.breaks))[kept]
    levels = np.array([(states.moves <= tau).sum(axis=1) for tau in taus])
    return Frontier(means[kept], spreads[kept], problem.curve.widths[levels][:, problem.group])
