"""Balances the participants of a round over the groups of processes."""

import heapq
from collections.abc import Mapping, Sequence


def assign(work: Sequence[float], groups: int) -> list[list[int]]:
    """Spread participants over groups so that the busiest group has little more than its share.

    Longest processing time first (Graham 1969): the largest piece of work goes to the least loaded group. The busiest
    group then carries at most 4/3 of the optimum.

    Args:
        work: Expected work of each participant, in any unit, each >= 0.
        groups: Number of groups, >= 1; some stay idle when there are fewer participants.

    Returns:
        For each group the indices of its participants, largest work first. Equal work keeps the order of indices, so
        that every process computes the same answer without communication.

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


class LoadBalancer:
    """Assigns each round's stacks of participants to groups by their earlier training times.

    A participant without a time counts by its samples, at the pace of the others. Results do not depend on it.

    Args:
        samples: Number of samples of every participant.

    Example:
        >>> balancer = LoadBalancer([10, 10, 10, 10])
        >>> balancer.update({0: 3.0, 1: 1.0, 2: 1.0})
        >>> balancer.assign([[0], [1, 2], [3]], 2)  # participant 3 is expected to take 5 / 3 seconds
        [[[0]], [[1, 2], [3]]]
    """

    def __init__(self, samples: Sequence[int]) -> None:
        self._samples = samples
        self._seconds: dict[int, float] = {}

    def update(self, seconds: Mapping[int, float]) -> None:
        """Store the seconds that participants took in a round; called with the same values in all processes."""
        self._seconds.update(seconds)

    def assign(self, stacks: Sequence[Sequence[int]], groups: int) -> list[list[Sequence[int]]]:
        """Return each group's stacks, in the order in which they are to train."""
        measured = sum(self._samples[index] for index in self._seconds)
        pace = sum(self._seconds.values()) / measured if measured else 1.0
        work = [
            sum(self._seconds.get(index, pace * self._samples[index]) for index in participants)
            for participants in stacks
        ]
        return [[stacks[place] for place in places] for places in assign(work, groups)]
