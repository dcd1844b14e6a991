"""Results of a round: a report on each participant, and the aggregate of the updates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from aequa_lightning.engine.processes.topology import Topology


class ParticipantReport(NamedTuple):
    """The result of a participant's training in a round, without its update.

    Attributes:
        loss: Mean loss over steps and widths; 0 if the update was refused.
        refused: Whether the update was refused, because it or the loss is not finite, or because it is too large.
        seconds: Duration of the training; in a stack an equal share of the stack's duration.
    """

    loss: float = 0.0
    refused: bool = False
    seconds: float = 0.0


def merge_reports(
    own: Mapping[int, ParticipantReport], present: Sequence[int], topology: Topology
) -> dict[int, ParticipantReport]:
    """Return the reports of all groups; a collective operation.

    Args:
        own: Reports on the participants that this process's group hosted, by index.
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
        excluded: Participants whose valid update was excluded, ascending.
        mean_update: float64 of shape (P,).
        coverage: Total weight behind each of its entries; float64 of shape (P,), or () if all participants hold all
            entries.
    """

    weights: Mapping[int, float]
    excluded: Sequence[int]
    mean_update: Tensor
    coverage: Tensor
