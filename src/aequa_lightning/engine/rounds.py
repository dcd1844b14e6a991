"""The results of a round: a report on each participant, and the aggregate of the updates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from aequa_lightning.engine.processes.topology import Topology


class ParticipantReport(NamedTuple):
    """The result of a participant's training in a round, without its update.

    Attributes:
        loss: Mean loss over steps and widths; 0 where the update was refused.
        refused: Whether the update is not finite or exploded.
        seconds: How long it took; of a stack each participant's even share.
    """

    loss: float = 0.0
    refused: bool = False
    seconds: float = 0.0


def merge_reports(
    own: Mapping[int, ParticipantReport], present: Sequence[int], topology: Topology
) -> dict[int, ParticipantReport]:
    """Return the reports of all groups; a collective operation.

    Args:
        own: Reports on those whom this process's group hosted, by index.
        present: All participants of the round.
        topology: Where this process stands.

    Returns:
        A report on each of ``present``, in their order, the same on all processes.
    """
    table = torch.tensor([own.get(index, ParticipantReport()) for index in present], dtype=torch.float64)
    rows = topology.merge(table).tolist()
    return {
        index: ParticipantReport(loss, bool(refused), seconds)
        for index, (loss, refused, seconds) in zip(present, rows, strict=True)
    }


@dataclass(frozen=True)
class Aggregate:
    """The average of a round's updates, the same on all processes.

    Attributes:
        weights: Weight of every participant whose update entered the average, by index, ascending.
        excluded: Those whose sound update was excluded, ascending.
        mean_update: float64 of shape (P,).
        coverage: Total weight behind each of its entries; float64 of shape (P,), or () when all hold all.
    """

    weights: Mapping[int, float]
    excluded: Sequence[int]
    mean_update: Tensor
    coverage: Tensor
