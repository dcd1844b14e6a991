"""Every admissible allocation of a small case, straight from the rules, and random cases to try."""

from collections.abc import Iterator
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from aequa_lightning.rewards import offered_widths


def admissible(
    contributions: np.ndarray, curve: dict[float, float], floors: np.ndarray | None, pin_top: bool
) -> np.ndarray:
    """Return the accuracies of every admissible allocation, (A, N)."""
    levels = offered_widths(curve).accuracies
    order = np.argsort(contributions, kind="stable")
    combinations = np.array(list(combinations_with_replacement(levels, len(contributions))))
    allocations = np.empty_like(combinations)
    allocations[:, order] = combinations  # non-decreasing along the order of contributions
    fine = np.ones(len(allocations), dtype=bool)
    for one in range(len(contributions)):
        for other in range(one):
            if contributions[one] == contributions[other]:
                fine &= allocations[:, one] == allocations[:, other]
    if floors is not None:
        fine &= (allocations >= np.minimum(floors, levels[-1])).all(axis=1)
    if pin_top:
        fine &= (allocations[:, contributions == contributions.max()] == levels[-1]).all(axis=1)
    return allocations[fine]


def random_cases(count: int, seed: int, largest: int = 6) -> Iterator[dict[str, Any]]:
    """Draw small cases: ties, floors that follow the order or not, both settings of the pin, curves with inversions."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        participants, widths = rng.integers(1, largest + 1, size=2)
        # Coarse numbers make ties and exact hits of the targets; fine ones make everything distinct.
        digits = int(rng.choice([1, 2, 12]))
        contributions = rng.uniform(0.05, 0.9, participants).round(digits)
        accuracies = rng.uniform(0.1, 1.0, widths).round(digits)
        if rng.random() < 0.6:
            accuracies.sort()
        floors = None
        if rng.random() < 0.5:
            floors = contributions if rng.random() < 0.5 else rng.uniform(0, 1.05, participants).round(digits)
        yield {
            "contributions": contributions,
            "accuracy_by_width": {(k + 1) / widths: float(accuracy) for k, accuracy in enumerate(accuracies)},
            "floors": floors,
            "pin_top": bool(rng.random() < 0.5),
        }
