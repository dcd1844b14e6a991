"""Callbacks of the training loop: the base class with all hooks, their arguments and results, and the dispatcher."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from aequa_lightning.engine.reward_source import RewardSource
from aequa_lightning.engine.run import Run
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.arguments import RecordsArguments
from aequa_lightning.slimmable import Distillation


@dataclass(frozen=True)
class RoundResult:
    """Result of one round in this process.

    Attributes:
        round: Number of the round, from 1.
        updates: Updates of the participants that this process's group hosted, by index; of shape (P,). Those that
            were excluded from the average are among them.
        weights: Weight of every participant whose update entered the average, by index, ascending.
        coverage: Total weight behind each entry of the aggregate; float64 of shape (P,), or () if all participants hold
            all entries.
        mean_update: The aggregate, the same on all processes; float64 of shape (P,).
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


@dataclass(frozen=True)
class Assignment:
    """Widths of a round, as a callback assigns them; equal in all processes.

    Attributes:
        widths: Width that each participant holds from now on, (N,).
        distillation: Teacher widths of this round; None: those of the model.
    """

    widths: Sequence[float]
    distillation: Distillation | None = None


class CollaborationCallback(RecordsArguments):
    """Base class of callbacks; override the hooks that are needed.

    Every hook runs in every process, callback by callback in the order of their list. A callback reads the run and
    returns its decisions, and the loop applies them.
    """

    def check(self) -> None:
        """Raise an ``InputError`` if the callback cannot work with its options; called before the run is built."""

    def setup(self, run: Run) -> None:
        """Called when the run is built, before a checkpoint is loaded: create state that depends on the run's size."""

    def on_fit_start(self, run: Run) -> None:
        """Called before training, after a checkpoint has been loaded."""

    def on_standalone_end(self, run: Run, participant: int) -> None:
        """Called after the standalone training of a participant of this group."""

    def on_round_start(self, run: Run) -> Assignment | None:
        """Called when the cohort of round ``run.round + 1`` is chosen.

        Returns:
            The widths of the round; None: those of the previous one.
        """

    def on_participant_start(self, run: Run, participant: int, received: Tensor) -> None:
        """Called before a participant of this group trains in a round.

        Args:
            run: The run.
            participant: Its index.
            received: The parameters that it starts from, of shape (P,).
        """

    def on_participant_end(self, run: Run, participant: int) -> None:
        """Called after a participant of this group has trained in a round."""

    def on_updates(self, run: Run, accepted: Sequence[int], refused: Sequence[int]) -> Collection[int]:
        """Called when all updates are received, before they are averaged.

        ``run.server.updates`` holds those of this group.

        Args:
            run: The run, in a round.
            accepted: Indices of those whose update may enter the average, ascending, the same in all processes.
            refused: Indices of those whose update or loss is not finite, or whose update is too large.

        Returns:
            Indices of accepted participants to exclude from the average, the same in all processes.
        """
        return ()

    def on_round_end(self, run: Run, result: RoundResult) -> RewardSource | None:
        """Called after a round's aggregation and evaluation, before its event is written. Mechanisms pay here.

        Args:
            run: The run. If participants have their own models, this hook may write to ``run.models``.
            result: The round.

        Returns:
            Parameters that rewards are cut from if the run ends with this round; None: unchanged.
        """

    def ends_rounds(self, run: Run) -> bool:
        """Asked before each round and at the end of the run, with the same answer in all processes.

        Returns:
            Whether no further round is done, although ``max_rounds`` is not reached; the rewards are paid then.
        """
        return False

    def on_checkpoint(self, run: Run, path: Path) -> None:
        """Called on global rank 0 when a checkpoint has been written.

        Args:
            run: The run, after the round that is saved.
            path: The checkpoint.
        """

    def on_fit_end(self, run: Run) -> None:
        """Called when all rounds are done and saved; collective operations are still possible."""

    def on_fit_exit(self, run: Run) -> None:
        """Called at the end of a run, whether it is finished, stopped or failed."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as plain values and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a result of :meth:`state_dict`."""


class Callbacks:
    """Dispatches hooks to the callbacks of a run.

    Args:
        callbacks: In the order of calls.
    """

    def __init__(self, callbacks: Sequence[CollaborationCallback]) -> None:
        self._callbacks = callbacks

    def call(self, hook: str, run: Run, *arguments: Any) -> list[Any]:
        """Call a hook of all callbacks, and return their results that are not None."""
        answers = [getattr(callback, hook)(run, *arguments) for callback in self._callbacks]
        return [answer for answer in answers if answer is not None]

    def decide(self, hook: str, run: Run, *arguments: Any) -> Any:
        """Call a hook of all callbacks, of which one at most may decide; return its decision, or None.

        Raises:
            InputError: Two callbacks decide the same.
        """
        answers = self.call(hook, run, *arguments)
        if len(answers) > 1:
            raise InputError(f"trainer.callbacks: {len(answers)} callbacks decide in {hook}; one at most may do so.")
        return answers[0] if answers else None

    def by_name(self) -> Iterator[tuple[str, CollaborationCallback]]:
        """Yield each callback with a unique name: its class, with ``/1``, ``/2`` ... for further ones of that class."""
        count: dict[str, int] = {}
        for callback in self._callbacks:
            name = type(callback).__name__
            number = count[name] = count.get(name, -1) + 1
            yield f"{name}/{number}" if number else name, callback
