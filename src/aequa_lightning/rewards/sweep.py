"""The exact minimum of a planar objective: one sweep over the only allocations that can be best.

As tau rises, a participant moves from level k to k + 1 where the target o + tau s passes the middle of the two. Between
two such moves nothing changes, so N (M - 1) + 1 allocations hold every vertex of the hull (see ``objectives``): sorting
the moves and adding up their changes of (L, Q) evaluates all of them in O(NM log NM).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.rewards.objectives import PlanarObjective
from aequa_lightning.rewards.problem import Problem

Array = NDArray[np.float64]
Levels = NDArray[np.int64]

# How many of the best-looking states are evaluated again: running sums round, direct ones hardly.
_RECHECKED = 32
_TIE = 1e-12
# Cuts closer together than this intersect too inaccurately to prove anything.
_CLOSEST_CUTS = 1e-9


@dataclass(frozen=True, eq=False)
class Sweep:
    """Every allocation that is best for some tau, in order of tau.

    Attributes:
        moves: The tau at which each group leaves each level, infinite where it never does, (G, M - 1).
        breaks: The distinct finite moves, ascending, (T,); state j lies between breaks j - 1 and j.
        linear: L of each state, (T + 1,).
        quadratic: Q of each state, (T + 1,).
    """

    moves: Array
    breaks: Array
    linear: Array
    quadratic: Array


def sweep(problem: Problem, objective: PlanarObjective) -> Sweep:
    """Evaluate every allocation that is nearest to its targets for some tau.

    Example:
        >>> from aequa_lightning.rewards.objectives import spread_objective
        >>> from aequa_lightning.rewards.problem import pose
        >>> problem = pose([0.25, 0.5], {0.5: 0.5, 1.0: 1.0})
        >>> states = sweep(problem, spread_objective("cv", problem.contributions, 2, slope=1.0, lam=0.0))
        >>> states.breaks.tolist(), states.linear.tolist()
        ([0.5], [0.75, 1.25])
    """
    levels, lowest = problem.curve.accuracies, problem.lowest
    offsets, scales = objective.offsets[:, None], objective.scales[:, None]
    middles = (levels[1:] + levels[:-1]) / 2
    moves = np.full((len(lowest), problem.top), np.inf)
    np.divide(middles - offsets, scales, out=moves, where=scales > 0)
    # Who must hold at least level k has left the levels below it from the start.
    moves[np.arange(problem.top) < lowest[:, None]] = -np.inf
    group, level = np.nonzero(np.isfinite(moves))
    order = np.argsort(moves[group, level])
    group, level = group[order], level[order]
    taus = moves[group, level]
    steps = (levels[level + 1] - levels[level]) * problem.counts[group]
    start = levels[lowest] - objective.offsets
    linear = np.concatenate(([problem.counts * objective.scales @ start], objective.scales[group] * steps)).cumsum()
    changes = 2 * steps * (middles[level] - objective.offsets[group])
    quadratic = np.concatenate(([problem.counts @ start**2], changes)).cumsum()
    # Moves at the same tau happen together: in between, equal participants would be treated unequally.
    last = np.append(np.flatnonzero(np.diff(taus)), len(taus) - 1) if len(taus) else np.empty(0, dtype=np.int64)
    kept = np.concatenate(([0], last + 1))
    return Sweep(moves, taus[last], linear[kept], quadratic[kept])


def minimise(problem: Problem, objective: PlanarObjective) -> tuple[Levels, list[float]]:
    """Find the best allocation, and cuts that prove it (see ``certificate``).

    Ties go to the larger L; so does the case that the objective is infinite everywhere.

    Returns:
        The level of each group, (G,), and the values of tau at which the bounds of a proof are to be evaluated.

    Example:
        >>> from aequa_lightning.rewards.objectives import spread_objective
        >>> from aequa_lightning.rewards.problem import pose
        >>> problem = pose([0.25, 0.5], {0.5: 0.75, 1.0: 1.0})
        >>> minimise(problem, spread_objective("cv", problem.contributions, 2, slope=1.0, lam=0.0))[0].tolist()
        [0, 1]
    """
    states = sweep(problem, objective)
    values = objective.value(states.linear, states.quadratic)
    if not np.isfinite(values).any():
        return np.full(len(problem.lowest), problem.top), []
    few = min(_RECHECKED, len(values))
    nearly_best = np.argpartition(values, few - 1)[:few]
    allocations = [_levels_in_state(states, problem, state) for state in nearly_best]
    exact = [_evaluate(problem, objective, levels) for levels in allocations]
    least = min(value for value, _ in exact)
    chosen = max(
        (index for index, (value, _) in enumerate(exact) if value <= least + _TIE * max(1.0, abs(least))),
        key=lambda index: exact[index][1],
    )
    return allocations[chosen], _cuts(states, objective, exact[chosen][0])


def _levels_in_state(states: Sweep, problem: Problem, state: int) -> Levels:
    tau = states.breaks[state - 1] if state > 0 else -np.inf
    return np.asarray((states.moves <= tau).sum(axis=1))


def _evaluate(problem: Problem, objective: PlanarObjective, levels: Levels) -> tuple[float, float]:
    gains = problem.curve.accuracies[levels] - objective.offsets
    linear, quadratic = problem.counts * objective.scales @ gains, problem.counts @ gains**2
    return float(objective.value(linear, quadratic)), float(linear)


def _cuts(states: Sweep, objective: PlanarObjective, least: float) -> list[float]:
    """Choose few of the breaks such that no point above their cuts has an objective below ``least``."""
    breaks = states.breaks
    if len(breaks) == 0:
        return []
    supports = states.quadratic[1:] - 2 * breaks * states.linear[1:]
    chosen = {0, len(breaks) - 1}
    open_pairs = [(0, len(breaks) - 1)]
    while open_pairs:
        left, right = open_pairs.pop()
        if right - left < 2 or breaks[right] - breaks[left] < _CLOSEST_CUTS:
            continue
        linear = (supports[left] - supports[right]) / (2 * (breaks[right] - breaks[left]))
        if objective.value(linear, supports[left] + 2 * breaks[left] * linear) >= least:
            continue
        middle = (left + right) // 2
        chosen.add(middle)
        open_pairs += [(left, middle), (middle, right)]
    return [float(breaks[index]) for index in sorted(chosen)]
