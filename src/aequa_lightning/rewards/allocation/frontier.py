"""What else could have been chosen: the trade of mean gain against spread, and what any grid could reach."""

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


def continuous_bound(
    contributions: ArrayLike,
    accuracy_by_width: Mapping[float, float],
    *,
    slope: float | str = 1.0,
    floors: ArrayLike | None = None,
    pin_top: bool = True,
) -> float:
    """Return the least ``cv`` that any grid of widths between the lowest and the full accuracy could reach.

    If every accuracy in between were on offer, the best rewards would be the targets slope c_i + tau, kept between
    the floor and the full accuracy. While the same participants are kept, the objective has one stationary point in
    tau, so trying all of these and all ends is exact.

    Args:
        contributions: Contributions in accuracy units, (N,).
        accuracy_by_width: Accuracy (0..1) of each measured width (0..1].
        slope: See ``allocate_widths``.
        floors: See ``allocate_widths``; a floor need not be a measured accuracy here.
        pin_top: See ``allocate_widths``.

    Returns:
        A lower bound of the objective value of ``allocate_widths(..., "cv")``; infinite if no mean gain is positive.

    Example:
        >>> continuous_bound([0.3, 0.5, 0.6], {0.25: 0.6, 1.0: 0.9}) < 1e-9
        True
        >>> round(continuous_bound([0.1, 0.5], {0.25: 0.6, 1.0: 0.9}), 6)
        0.111111
    """
    problem = build_problem(contributions, accuracy_by_width, floors=floors, pin_top=pin_top)
    offsets, counts = resolve_slope(slope, problem) * problem.contributions, problem.counts
    low, high = np.full((2, len(counts)), problem.curve.accuracies[[0, -1], None])
    if floors is not None:
        np.maximum.at(low, problem.group, np.minimum(np.asarray(floors, dtype=np.float64), high[0]))
        low = np.maximum.accumulate(low)
    if pin_top:
        low[-1] = high[-1]
    # Up to the first tau a participant is kept at its floor; from the second on at the full accuracy; free in between.
    leaves, arrives = low - offsets, high - offsets
    order = np.argsort(np.concatenate((leaves, arrives)), kind="stable")
    taus = np.concatenate((leaves, arrives))[order]
    free = np.concatenate((counts, -counts))[order].cumsum()
    fixed = counts @ leaves + np.concatenate((-counts * leaves, counts * arrives))[order].cumsum()
    square = counts @ leaves**2 + np.concatenate((-counts * leaves**2, counts * arrives**2))[order].cumsum()
    # With k free gains of tau each, the ratio is least at tau = square / fixed.
    stationary = np.divide(square, fixed, out=taus.copy(), where=fixed > 0)
    candidates = np.concatenate((taus, np.clip(stationary[:-1], taus[:-1], taus[1:])))
    free, fixed, square = (np.concatenate((values, values[:-1])) for values in (free, fixed, square))
    objective = spread_objective("cv", problem.contributions, len(problem.group), slope=1.0, lam=0.0)
    values = objective.of_sums(free * candidates + fixed, free * candidates**2 + square)
    gains = np.clip(offsets + candidates[values.argmin()], low, high) - offsets
    return objective.of_accuracies(gains + objective.offsets, counts)
