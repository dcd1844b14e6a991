"""Collective operations over the updates of all processes: gathering ranges, and Gram matrices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aequa_lightning.engine.processes.topology import Topology

# Number of segments of the parameters. One group computes the products of a segment, and segments are summed in a
# fixed order, so that the result does not depend on the number of groups.
SEGMENTS = 16
# Largest number of entries of one exchange: 16 MiB in float32.
MAX_ENTRIES = 2**22


@dataclass(frozen=True)
class DistributedUpdates:
    """Updates of participants, each held by the group that trained it.

    Attributes:
        own: Updates of the participants that this process's group hosted, by index; of shape (P,).
        participants: Indices of the N participants to collect, the same in every process.
        topology: Where this process stands.
        size: P.
        dtype: Type of the updates, which a group without updates cannot infer.
    """

    own: Mapping[int, Tensor]
    participants: Sequence[int]
    topology: Topology
    size: int
    dtype: torch.dtype

    def gather(self, start: int = 0, end: int | None = None) -> Tensor:
        """Collect a range of entries of all updates; a collective operation over the groups.

        Args:
            start: Start of the range.
            end: End of the range, exclusive; None: P.

        Returns:
            Shape (N, end - start), on the device.
        """
        end = self.size if end is None else end
        table = torch.zeros(len(self.participants), end - start, dtype=self.dtype, device=self.topology.device)
        for row, index in zip(table, self.participants, strict=True):
            if index in self.own:
                row.copy_(self.own[index][start:end])
        # Every row is zero in all groups but one, so the sum is exact.
        self.topology.sum_over_groups(table)
        return table

    def gram_matrices(self, powers: Sequence[int] = (1,)) -> Tensor:
        """Return the Gram matrices of elementwise powers of updates; a collective operation over the groups.

        Updates are exchanged in ranges of entries, so that no process holds all of them at once.

        Args:
            powers: Exponents that are applied to every entry, R of them.

        Returns:
            float64 of shape (R, N, N), on the CPU; the same bits in every process, for any number of them.
        """
        count, topology = len(self.participants), self.topology
        total = torch.zeros(len(powers), count, count, dtype=torch.float64)
        step = max(1, MAX_ENTRIES // max(1, count))
        # Segments whose products are exchanged together.
        together = max(1, MAX_ENTRIES // max(1, len(powers) * count**2))
        for first in range(0, SEGMENTS, together):
            segments = range(first, min(first + together, SEGMENTS))
            products = torch.zeros(len(segments), *total.shape, dtype=torch.float64, device=topology.device)
            for own, segment in zip(products, segments, strict=True):
                last = self.size * (segment + 1) // SEGMENTS
                for start in range(self.size * segment // SEGMENTS, last, step):
                    table = self.gather(start, min(start + step, last))
                    if segment % topology.groups == topology.group:
                        for place, power in enumerate(powers):
                            rows = table.double().pow(power)
                            own[place] += rows @ rows.T
            for product in topology.merge(products):
                total += product
        return total
