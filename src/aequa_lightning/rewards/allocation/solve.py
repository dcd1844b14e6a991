"""One solver per objective: the levels, the objective's value and what a proof needs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.allocation.correlation import maximise
from aequa_lightning.rewards.allocation.objectives import (
    SPREAD_OBJECTIVES,
    TargetObjective,
    angle_objective,
    spread_objective,
)
from aequa_lightning.rewards.allocation.parametric import minimise
from aequa_lightning.rewards.allocation.problem import Problem

Levels = NDArray[np.int64]
OBJECTIVES = (*SPREAD_OBJECTIVES, "proportional", "pearson", "nash", "full")
IN_ACCURACY_UNITS = (*SPREAD_OBJECTIVES, "nash", "full")


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver found.

    Attributes:
        levels: Level of each group, (G,).
        value: The objective's value; the largest is best for ``proportional``, ``pearson``, ``nash`` and ``full``.
        proof: What ``check_certificate`` needs, as plain values; ``kind`` says how it works.
        remarks: What the reader should know.
    """

    levels: Levels
    value: float
    proof: dict[str, Any]
    remarks: tuple[str, ...] = ()


def solve(problem: Problem, name: str, *, slope: float, lam: float) -> Solution:
    """Find the best admissible allocation. See ``allocate_widths`` for the arguments.

    Example:
        >>> from aequa_lightning.rewards.allocation.problem import build_problem
        >>> problem = build_problem([0.2, 0.4], {0.5: 0.5, 1.0: 0.8})
        >>> solve(problem, "full", slope=1.0, lam=0.5).levels.tolist()
        [1, 1]
    """
    if name not in OBJECTIVES:
        raise InputError(f"objective {name!r} is unknown; choose from {', '.join(OBJECTIVES)}.")
    largest = float(np.abs(problem.contributions).max())
    if name in IN_ACCURACY_UNITS and largest > 1:
        raise InputError(
            f"contributions reach {largest:.6g}, but objective {name!r} compares them with accuracies in 0..1; "
            "divide percentages by 100, or choose 'pearson' or 'proportional' for other units."
        )
    if name in SPREAD_OBJECTIVES:
        objective = spread_objective(name, problem.contributions, len(problem.group), slope=slope, lam=lam)
        return _nearest_to_targets(problem, objective, {"lam": lam})
    if name == "proportional":
        return _proportional(problem)
    if name == "pearson":
        return _pearson(problem)
    return _full(problem, name)


def proportional_objective(contributions: NDArray[np.float64], counts: NDArray[np.int64]) -> TargetObjective:
    """Return the angle between accuracies and contributions, the scale being free.

    Args:
        contributions: Not negative, in any unit, (G,).
        counts: How many participants each stands for, (G,).

    Example:
        >>> objective = proportional_objective(np.array([1.0, 2.0]), np.ones(2, dtype=int))
        >>> objective.of_accuracies(np.array([0.4, 0.8]), np.ones(2, dtype=int)) < 1e-12
        True
    """
    if contributions.min() < 0 or contributions.max() == 0:
        raise InputError(
            f"contributions from {contributions.min():.6g} to {contributions.max():.6g} allow no proportion; "
            "none may be negative, and one must be positive."
        )
    scales = contributions / contributions.max()
    return angle_objective(np.zeros_like(scales), scales, float(counts @ scales**2))


def _nearest_to_targets(problem: Problem, objective: TargetObjective, proof: dict[str, Any]) -> Solution:
    levels, cuts = minimise(problem, objective)
    value = objective.of_accuracies(problem.curve.accuracies[levels], problem.counts)
    remarks = (
        () if np.isfinite(value) else ("no allocation has a positive mean gain; this is the one with the largest",)
    )
    # The file's format has a limit on how often a width may be handed out; there is none.
    return Solution(levels, value, {"kind": "cuts", "cuts": cuts, "capacity": None, **proof}, remarks)


def _proportional(problem: Problem) -> Solution:
    if not problem.contributions.any():
        return _undefined(problem, "nobody contributed anything, so there is no proportion")
    objective = proportional_objective(problem.contributions, problem.counts)
    solution = _nearest_to_targets(problem, objective, {"rho": None})
    return Solution(solution.levels, 1 / float(np.hypot(1, solution.value)), solution.proof)


def _pearson(problem: Problem) -> Solution:
    levels, proof = maximise(problem)
    if levels is None:
        return _undefined(problem, "the correlation is undefined for every admissible allocation")
    accuracies = problem.curve.accuracies[levels] - np.average(problem.curve.accuracies[levels], weights=problem.counts)
    contributions = problem.contributions - np.average(problem.contributions, weights=problem.counts)
    weighted = problem.counts * accuracies
    value = float(weighted @ contributions / np.sqrt(weighted @ accuracies * (problem.counts @ contributions**2)))
    gap = 1 - value**2 - proof["bound"]
    remarks = () if gap < 1e-9 else (f"the search was cut short: 1 - rho^2 may be less than this by up to {gap:.3g}",)
    return Solution(levels, value, {"kind": "triangles", **proof}, remarks)


def _undefined(problem: Problem, why: str) -> Solution:
    """Give everybody the full width where the objective tells no allocation from another: the largest gains decide."""
    everybody = np.full(len(problem.counts), problem.top)
    return Solution(everybody, 0.0, {"kind": "undefined"}, (f"{why}; everybody receives the full width",))


def _full(problem: Problem, name: str) -> Solution:
    """Give everybody the full width: it maximises every gain, and so their mean and their product (Nash welfare)."""
    levels = np.full(len(problem.counts), problem.top)
    gains = problem.curve.accuracies[-1] - problem.contributions
    if name == "full":
        return Solution(levels, float(np.average(gains, weights=problem.counts)), {"kind": "full"})
    logarithms = np.log(gains, out=np.full_like(gains, -np.inf), where=gains > 0)
    return Solution(levels, float(np.exp(np.average(logarithms, weights=problem.counts))), {"kind": "full"})
