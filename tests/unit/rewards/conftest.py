"""Every admissible allocation of a small case, straight from the rules, and random cases to try them on."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest

from aequa_lightning.rewards import offered_widths

Case = dict[str, Any]


@pytest.fixture
def admissible() -> Callable[[Case], np.ndarray]:
    """Return a function of a case that lists the accuracies of its every admissible allocation, (A, N)."""
    return _admissible


@pytest.fixture
def random_cases() -> Callable[..., Iterator[Case]]:
    """Return a function that draws small cases: ties, inversions, floors in and out of order, pinned or not."""
    return _random_cases


def _admissible(case: Case) -> np.ndarray:
    contributions, floors = case["contributions"], case["floors"]
    levels = offered_widths(case["accuracy_by_width"]).accuracies
    order = np.argsort(contributions, kind="stable")
    combinations = levels[_combinations(len(levels), len(contributions))]
    allocations = np.empty_like(combinations)
    allocations[:, order] = combinations  # non-decreasing along the order of contributions
    fine = np.ones(len(allocations), dtype=bool)
    for one in range(len(contributions)):
        for other in range(one):
            if contributions[one] == contributions[other]:
                fine &= allocations[:, one] == allocations[:, other]
    if floors is not None:
        fine &= (allocations >= np.minimum(floors, levels[-1])).all(axis=1)
    if case["pin_top"]:
        fine &= (allocations[:, contributions == contributions.max()] == levels[-1]).all(axis=1)
    return allocations[fine]


@cache
def _combinations(levels: int, participants: int) -> np.ndarray:
    return np.array(list(combinations_with_replacement(range(levels), participants)))


def _random_cases(count: int, seed: int, largest: int = 6) -> Iterator[Case]:
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
            "accuracy_by_width": {float((k + 1) / widths): float(accuracy) for k, accuracy in enumerate(accuracies)},
            "floors": floors,
            "pin_top": bool(rng.random() < 0.5),
        }
