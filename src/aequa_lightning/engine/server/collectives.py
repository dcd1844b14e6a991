"""What the updates of a round have to do with each other, though they lie in different processes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aequa_lightning.engine.processes.topology import Topology

# The parameters are cut into so many segments, each multiplied by one group. Their sum is taken in this fixed order, so
# that the result does not depend on the number of groups.
SEGMENTS = 16
# Numbers that are exchanged at a time: 16 MiB.
TABLE = 2**22


def gather(
    updates: Mapping[int, Tensor],
    participants: Sequence[int],
    topology: Topology,
    *,
    start: int,
    end: int,
    dtype: torch.dtype,
) -> Tensor:
    """Collect a range of the parameters of all updates; a collective operation over the groups.

    Args:
        updates: Updates of the participants that this group hosted, by index; of shape (P,).
        participants: Indices of the participants to collect, N of them, the same in every process.
        topology: Where this process stands.
        start: First parameter.
        end: One past the last.
        dtype: Type of the updates, which a group without any of them has to be told.

    Returns:
        Shape (N, end - start), on the device.
    """
    table = torch.zeros(len(participants), end - start, dtype=dtype, device=topology.device)
    for place, index in enumerate(participants):
        if index in updates:
            table[place] = updates[index][start:end]
    # Every row is zero in all groups but one: the sum only carries it there.
    topology.sum_over_groups(table)
    return table


def gram_matrix(
    updates: Mapping[int, Tensor], participants: Sequence[int], topology: Topology, *, size: int, dtype: torch.dtype
) -> Tensor:
    """Return the inner products of all pairs of updates; a collective operation over the groups.

    Args:
        updates: Updates of the participants that this group hosted, by index; of shape (P,).
        participants: Indices of all participants with an update, N of them, the same in every process.
        topology: Where this process stands.
        size: P.
        dtype: Type of the updates.

    Returns:
        float64 of shape (N, N), on the CPU; the same bits in every process, for any number of them.
    """
    return gram_matrices(updates, participants, topology, size=size, dtype=dtype, powers=(1,))[0]


def gram_matrices(
    updates: Mapping[int, Tensor],
    participants: Sequence[int],
    topology: Topology,
    *,
    size: int,
    dtype: torch.dtype,
    powers: Sequence[int],
) -> Tensor:
    """Return the inner products of all pairs of powers of updates; a collective operation over the groups.

    The updates travel in ranges of parameters, so that no process ever holds all of them.

    Args:
        updates: Updates of the participants that this group hosted, by index; of shape (P,).
        participants: Indices of all participants with an update, N of them, the same in every process.
        topology: Where this process stands.
        size: P.
        dtype: Type of the updates.
        powers: Each of them taken of every entry, R of them.

    Returns:
        float64 of shape (R, N, N), on the CPU; the same bits in every process, for any number of them.
    """
    count = len(participants)
    total = torch.zeros(len(powers), count, count, dtype=torch.float64)
    step = max(1, TABLE // max(1, count))
    # Segments whose products are exchanged together.
    together = max(1, TABLE // max(1, len(powers) * count**2))
    for first in range(0, SEGMENTS, together):
        segments = range(first, min(first + together, SEGMENTS))
        products = torch.zeros(len(segments), *total.shape, dtype=torch.float64, device=topology.device)
        for own, segment in zip(products, segments, strict=True):
            last = size * (segment + 1) // SEGMENTS
            for start in range(size * segment // SEGMENTS, last, step):
                end = min(start + step, last)
                table = gather(updates, participants, topology, start=start, end=end, dtype=dtype)
                if segment % topology.groups == topology.group:
                    for place, power in enumerate(powers):
                        rows = table.double().pow(power)
                        own[place] += rows @ rows.T
        for of_segment in topology.merge(products):
            total += of_segment
    return total
