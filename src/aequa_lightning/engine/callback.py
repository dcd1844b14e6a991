"""The hooks of the training loop: what a callback is told, what it may decide, and how hooks are called."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aequa_lightning.engine.reward_source import RewardSource
from aequa_lightning.engine.run import Run
from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import Distillation


@dataclass(frozen=True)
class RoundResult:
    """One round as a process has seen it.

    Attributes:
        round: Number of the round, from 1.
        updates: Updates of the participants that this process's group hosted, by index; of shape (P,). Those that
            were excluded from the average are among them.
        weights: Weight of every participant whose update entered the average, by index, ascending.
        coverage: Total weight behind each entry of the aggregate; float64 of shape (P,), or () when all hold all.
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
    """What a callback decides before a round, alike in all processes.

    Attributes:
        widths: Width that each participant holds from now on, (N,).
        distillation: Which of these widths learn from another one; None: as the model says.
    """

    widths: Sequence[float]
    distillation: Distillation | None = None


class CollaborationCallback:
    """Base class: override what is needed. Every hook runs in every process, in the order of the list of callbacks.

    A callback reads the run. What it decides it returns; the loop applies it.
    """

    def check(self) -> None:
        """Raise an ``InputError`` where the callback could not do its work; nothing has been written or built yet."""

    def setup(self, run: Run) -> None:
        """The run is built, no checkpoint has been loaded: build what depends on its size."""

    def on_fit_start(self, run: Run) -> None:
        """Before any training, after a checkpoint has been loaded."""

    def on_standalone_end(self, run: Run, participant: int) -> None:
        """A participant of this group has trained alone."""

    def on_round_start(self, run: Run) -> Assignment | None:
        """The cohort of round ``run.round + 1`` is chosen. Return what everybody holds in it; None: as before."""

    def on_participant_start(self, run: Run, participant: int, received: Tensor) -> None:
        """A participant of this group has received its parameters, flat, and is about to train in a round."""

    def on_participant_end(self, run: Run, participant: int) -> None:
        """A participant of this group has trained in a round."""

    def on_updates(self, run: Run, accepted: Sequence[int], refused: Sequence[int]) -> Collection[int]:
        """All updates are in, those of this group as ``run.server.updates``, and none has moved the server.

        Args:
            run: The run, in a round.
            accepted: Indices of those whose update may enter the average, ascending, the same in all processes.
            refused: Indices of those whose update was not finite or exploded.

        Returns:
            Indices of those accepted whose update is excluded from the average, the same in all processes.
        """
        return ()

    def on_round_end(self, run: Run, result: RoundResult) -> RewardSource | None:
        """The round is aggregated and evaluated; its event is about to be written. A mechanism pays here.

        Args:
            run: The run. Where everybody has a model of its own, ``run.models`` may be written to.
            result: The round.

        Returns:
            What rewards are to be cut from if the run ends with this round; None: as before.
        """

    def on_fit_end(self, run: Run) -> None:
        """All rounds are done and saved; the group of processes still stands."""

    def on_fit_exit(self, run: Run) -> None:
        """The run ends: finished, stopped or failed."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""


class Callbacks:
    """The callbacks of a run.

    Args:
        callbacks: Called in this order.
    """

    def __init__(self, callbacks: Sequence[CollaborationCallback]) -> None:
        self._callbacks = callbacks

    def call(self, hook: str, run: Run, *arguments: Any) -> list[Any]:
        """Call a hook of all callbacks; return what they return, without None."""
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
        """Yield each callback with the name of its class; of several of one class the others have a number."""
        count: dict[str, int] = {}
        for callback in self._callbacks:
            name = type(callback).__name__
            number = count[name] = count.get(name, -1) + 1
            yield f"{name}/{number}" if number else name, callback
