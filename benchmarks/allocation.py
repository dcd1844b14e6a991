"""The exact allocation against simulated annealing in the same run: time and objective.

Usage: python -m benchmarks.allocation
"""

from collections.abc import Callable
from time import perf_counter

from aequa_lightning.rewards import allocate_widths, check_certificate
from aequa_lightning.rewards.allocation.problem import build_problem
from benchmarks.annealing import anneal, random_instance

LIMITS = {("cv", 1_000): 5.0, ("cv", 100_000): 2_000.0, ("pearson", 1_000): 100.0}
"""Milliseconds that 10 widths may take."""


def timed(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest wall time in milliseconds."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return 1e3 * min(times)


def compare(objective: str, participants: int, widths: int, moves: list[int]) -> None:
    """Print one row: the exact value, its time, its proof, and annealing's excess over it."""
    contributions, curve = random_instance(participants, widths)
    allocation = allocate_widths(contributions, curve, objective)
    milliseconds = timed(lambda: allocate_widths(contributions, curve, objective), 5 if participants < 50_000 else 2)
    exact = allocation.objective_value if objective == "cv" else 1 - allocation.objective_value
    proven = "-"
    if participants <= 1_000 and widths <= 10:
        proven = "yes" if check_certificate(allocation, contributions, curve) == [] else "NO"
    limit = LIMITS.get((objective, participants)) if widths == 10 else None
    within = "" if limit is None else f"  (limit {limit:.0f} ms: {'met' if milliseconds <= limit else 'MISSED'})"
    row = f"{objective:8} {participants:7} {widths:3}  {exact:.9f}  {milliseconds:9.2f} ms  {proven:3}"
    problem = build_problem(contributions, curve)
    for count in moves:
        start = perf_counter()
        found = anneal(problem, objective, moves=count)
        excess = found - exact
        shown = f"{100 * excess / exact:+8.3f} %" if objective == "cv" else f"{excess:+.2e}"
        row += f"  {shown} in {perf_counter() - start:5.2f} s"
        assert excess >= -1e-9, "annealing must never beat an exact optimum"
    print(row + within)


def main() -> None:
    print(
        "objective      N   M  cv or 1 - rho     exact time  proven  annealing's excess with 20,000 and 200,000 moves"
    )
    for objective in ("cv", "pearson"):
        for participants, widths in ((10, 10), (100, 10), (1_000, 10), (1_000, 37)):
            compare(objective, participants, widths, [20_000, 200_000])
    compare("cv", 100_000, 10, [])
    compare("pearson", 5_000, 10, [])


if __name__ == "__main__":
    main()
