"""Which group of processes trains which participants."""

import heapq
from collections.abc import Sequence


def assign(work: Sequence[float], groups: int) -> list[list[int]]:
    """Spread participants over groups so that the busiest group has little more than its share.

    Longest processing time first (Graham 1969): the largest piece of work goes to the least loaded group. The busiest
    group then carries at most 4/3 of the optimum.

    Args:
        work: Expected work of each participant, in any unit, each >= 0.
        groups: Number of groups, >= 1; some stay idle when there are fewer participants.

    Returns:
        For each group the indices of its participants, largest work first. Equal work keeps the order of indices, so
        that every process computes the same answer without talking.

    Example:
        >>> assign([5.0, 1.0, 3.0, 3.0], 2)
        [[0, 1], [2, 3]]
    """
    loads = [(0.0, group) for group in range(groups)]
    hosted: list[list[int]] = [[] for _ in range(groups)]
    for participant in sorted(range(len(work)), key=lambda i: (-work[i], i)):
        load, group = heapq.heappop(loads)
        hosted[group].append(participant)
        heapq.heappush(loads, (load + work[participant], group))
    return hosted
