"""Allocation when a width may be handed out only so often: the bandwidth or the licences of its owner are limited.

The admissible allocations no longer separate, but for a given tau (see ``objectives``) the nearest one to the targets
is still found by dynamic programming over the groups in order of contribution: each level is held by a block of
neighbours. Since the least distance less S tau^2 is concave in tau, intervals of tau that cannot hold anything better
are discarded.
"""

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.allocation.objectives import TargetObjective
from aequa_lightning.rewards.allocation.problem import Problem

Array = NDArray[np.float64]
Levels = NDArray[np.int64]

_TIE = 1e-12


def minimise_within(problem: Problem, objective: TargetObjective, capacity: Array) -> tuple[Levels, list[float]]:
    """Find the best admissible allocation within the limits, and cuts that prove it (see ``certificate``).

    Args:
        problem: The rules.
        objective: What to minimise.
        capacity: How many participants may hold each level on offer, (M,); infinite where there is no limit.

    Returns:
        The level of each group, (G,), and the values of tau at which a proof needs the least distance.

    Raises:
        InputError: When no admissible allocation keeps within the limits.

    Example:
        >>> from aequa_lightning.rewards.allocation.objectives import spread_objective
        >>> from aequa_lightning.rewards.allocation.problem import build_problem
        >>> problem = build_problem([0.1, 0.2, 0.3], {0.5: 0.7, 1.0: 0.9})
        >>> objective = spread_objective("cv", problem.contributions, 3, slope=1.0, lam=0.0)
        >>> minimise_within(problem, objective, np.array([np.inf, 1.0]))[0].tolist()
        [0, 0, 1]
    """
    best = _Best(problem, objective, capacity)
    moves = (problem.curve.accuracies[1:] + problem.curve.accuracies[:-1]) / 2 - objective.offsets[:, None]
    scales = objective.scales[:, None] + np.zeros_like(moves)
    moves = moves[scales > 0] / scales[scales > 0]
    # So far out the targets lie well beyond all levels.
    reach = 16.0 * (1.0 + float(np.abs(moves).max(initial=0.0)))
    cuts = {tau: best.look(tau) for tau in (-reach, reach)}
    open_pairs = [(-reach, reach)]
    while open_pairs:
        left, right = open_pairs.pop()
        ends = (np.array(value) for value in (left, right, cuts[left][0], cuts[right][0]))
        if objective.least_between(*ends) >= best.value - _TIE:
            continue
        # Where the lines of the two allocations cross, either a third is nearer or there is none between.
        (_, line, square), (_, other_line, other_square) = cuts[left], cuts[right]
        if other_line - line <= 1e-12:
            continue
        tau = (other_square - square) / (2 * (other_line - line))
        if not left < tau < right:
            continue
        cuts[tau] = best.look(tau)
        if cuts[tau][2] - 2 * tau * cuts[tau][1] < square - 2 * tau * line - 1e-13 * max(1.0, abs(square)):
            open_pairs += [(left, tau), (tau, right)]
    return best.levels, sorted(cuts)


class _Best:
    """The best allocation among those that are nearest to some targets."""

    def __init__(self, problem: Problem, objective: TargetObjective, capacity: Array) -> None:
        self.problem, self.objective = problem, objective
        heads = np.concatenate(([0], problem.counts.cumsum()))
        # A block of groups that ends before group j and fits into the level starts at this group or later.
        self.earliest = np.array(
            [np.searchsorted(heads, heads - limit) for limit in np.minimum(capacity, heads[-1])], dtype=np.int64
        )
        self.value, self.linear = np.inf, -np.inf
        self.levels = np.full(len(problem.counts), problem.top)

    def look(self, tau: float) -> tuple[float, float, float]:
        """Find the nearest allocation to the targets at tau; return its distance, L and Q."""
        problem, objective = self.problem, self.objective
        levels = self.nearest(tau)
        accuracies = problem.curve.accuracies[levels]
        gains = accuracies - objective.offsets
        linear, square = float(problem.counts * objective.scales @ gains), float(problem.counts @ gains**2)
        value = objective.of_accuracies(accuracies, problem.counts)
        tied = value <= self.value + _TIE or (np.isinf(value) and np.isinf(self.value))
        if value < self.value - _TIE or (tied and linear > self.linear):
            self.levels, self.linear = levels, linear
        self.value = min(self.value, value)
        return float(problem.counts @ (gains - tau * objective.scales) ** 2), linear, square

    def nearest(self, tau: float) -> Levels:
        """Return the admissible levels within the limits whose accuracies are nearest to the targets at tau."""
        problem, objective = self.problem, self.objective
        targets = objective.offsets + tau * objective.scales
        groups = len(problem.counts)
        least = np.full(groups + 1, np.inf)
        least[0] = 0.0
        starts = np.empty((problem.top + 1, groups + 1), dtype=np.int64)
        for level, accuracy in enumerate(problem.curve.accuracies):
            cost = np.concatenate(([0.0], (problem.counts * (accuracy - targets) ** 2).cumsum()))
            # Groups that are owed a higher level cannot be in this block.
            allowed = int(np.searchsorted(problem.lowest, level, side="right"))
            start = _window_argmin(least - cost, self.earliest[level])
            start[allowed + 1 :] = np.arange(allowed + 1, groups + 1)
            least = (least - cost)[start] + cost
            starts[level] = start
        if np.isinf(least[-1]):
            raise InputError("capacity is too small for everybody; raise a limit, or leave out pin_top or floors.")
        levels = np.empty(groups, dtype=np.int64)
        end = groups
        for level in range(problem.top, -1, -1):
            start = starts[level][end]
            levels[start:end] = level
            end = start
        return levels


def _window_argmin(values: Array, first: Levels) -> Levels:
    """Return for each j the index of the least value in ``first[j]..j``, by a table of minima over powers of two."""
    index = np.arange(len(values))
    table = [index]
    while 2 ** len(table) <= len(values):
        half = table[-1]
        shifted = half[np.minimum(index + 2 ** (len(table) - 1), len(values) - 1)]
        table.append(np.where(values[shifted] < values[half], shifted, half))
    power = np.floor(np.log2(index - first + 1)).astype(np.int64)
    minima = np.array(table)
    early, late = minima[power, first], minima[power, index - 2**power + 1]
    return np.asarray(np.where(values[late] < values[early], late, early))
