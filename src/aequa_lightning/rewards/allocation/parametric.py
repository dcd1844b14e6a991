"""The exact minimum of an objective with targets: one sweep over the only allocations that can be best.

As tau rises, a participant moves from level k to k + 1 where the target o + tau s passes the middle of the two. Between
two such moves nothing changes, so the best x for every tau is among N (M - 1) + 1 allocations (see ``objectives``):
sorting the moves and adding up their changes of (L, Q) evaluates all of them in O(NM log NM).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.rewards.allocation.objectives import TargetObjective
from aequa_lightning.rewards.allocation.problem import Problem

Array = NDArray[np.float64]
Levels = NDArray[np.int64]

# Running sums round: at most so many states, so much worse than the best-looking one, are evaluated again directly.
_RECHECKED = 32
_ROUNDING = 2e-7
_TIE = 1e-12


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


def sweep(problem: Problem, objective: TargetObjective) -> Sweep:
    """Evaluate every allocation that is nearest to its targets for some tau.

    Example:
        >>> from aequa_lightning.rewards.allocation.objectives import spread_objective
        >>> from aequa_lightning.rewards.allocation.problem import build_problem
        >>> problem = build_problem([0.25, 0.5], {0.5: 0.5, 1.0: 1.0})
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


def minimise(problem: Problem, objective: TargetObjective) -> tuple[Levels, list[float]]:
    """Find the best allocation, and cuts that prove it (see ``certificate``).

    Ties go to the larger L; so does the case that the objective is infinite everywhere.

    Returns:
        The level of each group, (G,), and the values of tau at which a proof needs the least distance.

    Example:
        >>> from aequa_lightning.rewards.allocation.objectives import spread_objective
        >>> from aequa_lightning.rewards.allocation.problem import build_problem
        >>> problem = build_problem([0.25, 0.5], {0.5: 0.75, 1.0: 1.0})
        >>> minimise(problem, spread_objective("cv", problem.contributions, 2, slope=1.0, lam=0.0))[0].tolist()
        [0, 1]
    """
    states = sweep(problem, objective)
    values = objective.of_sums(states.linear, states.quadratic)
    least = float(values.min())
    if not np.isfinite(least):
        return np.full(len(problem.lowest), problem.top), []
    nearly_best = np.argpartition(values, min(_RECHECKED, len(values)) - 1)[:_RECHECKED]
    candidates = []
    for state in nearly_best[values[nearly_best] <= least + _ROUNDING * max(1.0, abs(least))]:
        levels = _levels_in_state(states, state)
        candidates.append((objective.of_accuracies(problem.curve.accuracies[levels], problem.counts), state, levels))
    least = min(value for value, _, _ in candidates)
    tied = [(state, levels) for value, state, levels in candidates if value <= least + _TIE * max(1.0, abs(least))]
    state, levels = max(tied, key=lambda candidate: states.linear[candidate[0]])
    return levels, _cuts(states, objective, state, least)


def _levels_in_state(states: Sweep, state: int) -> Levels:
    tau = states.breaks[state - 1] if state > 0 else -np.inf
    return np.asarray((states.moves <= tau).sum(axis=1))


def _cuts(states: Sweep, objective: TargetObjective, state: int, least: float) -> list[float]:
    """Choose few of the breaks such that the bounds between them exclude every f below ``least``."""
    breaks = states.breaks
    if len(breaks) == 0:
        return []
    distances = states.quadratic[1:] - 2 * breaks * states.linear[1:] + objective.norm * breaks**2
    # Dense around the best state, where bounds must be tight, and sparse away from it; then halve what is still open.
    steps = 2 ** np.arange(int(np.log2(len(breaks))) + 1)
    around = np.concatenate((state - steps, [state - 1, state], state + steps, [0, len(breaks) - 1]))
    chosen = np.unique(around.clip(0, len(breaks) - 1))
    left, right = chosen[:-1], chosen[1:]
    while len(left):
        wide = right - left > 1
        left, right = left[wide], right[wide]
        bounds = objective.least_between(breaks[left], breaks[right], distances[left], distances[right])
        left, right = left[bounds < least], right[bounds < least]
        middle = (left + right) // 2
        chosen = np.concatenate((chosen, middle))
        left, right = np.concatenate((left, middle)), np.concatenate((middle, right))
    return [float(tau) for tau in breaks[np.sort(chosen)]]
