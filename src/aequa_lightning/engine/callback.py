"""What a callback of the engine may do, and what it is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from aequa_lightning.engine.run import Collaboration


@dataclass(frozen=True)
class RoundResult:
    """One round as a process has seen it.

    Attributes:
        round: Number of the round, from 1.
        updates: Updates of the participants that this process's group hosted, by index; of shape (size,). Those
            that stayed out of the average are among them.
        weights: Weight of every participant whose update entered the average, by index, ascending.
        coverage: Total weight behind each entry of the aggregate; float64 of shape (size,), or () when all hold all.
        mean_update: The aggregate, the same on all processes; float64 of shape (size,).
        accuracy_by_width: Validation accuracy in [0, 1] of every width of the grid.
        record: The round's event, the same on all processes; a callback may add JSON values before it is written.
    """

    round: int
    updates: Mapping[int, Tensor]
    weights: Mapping[int, float]
    coverage: Tensor
    mean_update: Tensor
    accuracy_by_width: Mapping[float, float]
    record: dict[str, Any]


class CollaborationCallback:
    """Base class: override what is needed. Every hook runs in every process, in the order of the list of callbacks."""

    def check(self) -> None:
        """Raise an ``InputError`` where the callback could not do its work; nothing has been written or built yet."""

    def setup(self, run: Collaboration) -> None:
        """The run stands, no checkpoint has been loaded: build what depends on its size."""

    def on_fit_start(self, run: Collaboration) -> None:
        """Before any training, after a checkpoint has been loaded."""

    def on_round_start(self, run: Collaboration) -> None:
        """The next round, ``run.round + 1``, is about to begin: the time to set ``run.widths`` and the like."""

    def on_standalone_end(self, run: Collaboration, participant: int) -> None:
        """A participant of this group has trained alone."""

    def on_participant_start(self, run: Collaboration, participant: int, received: Tensor) -> None:
        """A participant of this group has received its parameters, flat, and is about to train in a round."""

    def on_participant_end(self, run: Collaboration, participant: int) -> None:
        """A participant of this group has trained in a round."""

    def on_updates(self, run: Collaboration, accepted: Sequence[int], refused: Sequence[int]) -> Collection[int]:
        """All updates are in, those of this group as ``run.server.updates``, and none has moved the server.

        Args:
            run: The run, in a round.
            accepted: Indices of those whose update may enter the average, ascending, the same in all processes.
            refused: Indices of those whose update was not finite or exploded.

        Returns:
            Indices of those accepted whose update is to stay out of the average, the same in all processes.
        """
        return ()

    def on_round_end(self, run: Collaboration, result: RoundResult) -> None:
        """The round has been aggregated and evaluated; its event is about to be written."""

    def on_fit_end(self, run: Collaboration) -> None:
        """All rounds are done and saved; the group of processes still stands."""

    def on_fit_exit(self, run: Collaboration) -> None:
        """The run ends: finished, stopped or failed."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
