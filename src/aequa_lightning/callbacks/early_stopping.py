"""Ends the rounds when the shared model no longer improves."""

from typing import Any

from typing_extensions import override

from aequa_lightning.callbacks.monitored import Monitor, check_monitor, improvement
from aequa_lightning.engine.callback import CollaborationCallback, RoundResult
from aequa_lightning.engine.run import Run
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import PaidInRounds


class EarlyStopping(CollaborationCallback):
    """Ends the rounds when the shared model has not improved for some rounds; then the rewards are paid.

    Everybody's training alone, which comes first, lasts ``max_rounds`` whatever happens later.

    Args:
        monitor: ``validation_accuracy`` of the full width, or ``train_loss``.
        patience: Rounds without improvement after which the run ends, >= 1.
        min_delta: A smaller improvement, in accuracy 0..1 or in units of the loss, counts as none; >= 0.

    Raises:
        InputError: A value is out of range.
    """

    def __init__(self, monitor: Monitor = "validation_accuracy", *, patience: int = 3, min_delta: float = 0.0) -> None:
        check_monitor(monitor, "EarlyStopping")
        if patience < 1 or not min_delta >= 0:
            raise InputError(
                f"EarlyStopping.patience={patience} must be at least 1, and min_delta={min_delta} at least 0."
            )
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self._best: float | None = None
        self._waited = 0

    @override
    def setup(self, run: Run) -> None:
        mechanism = run.config.mechanism
        if isinstance(mechanism, PaidInRounds) and mechanism.parts()[1].differs_in_last_round:
            raise InputError(
                f"EarlyStopping: trainer.mechanism={type(mechanism).__name__} pays in another way in the last round, "
                "so it must be known beforehand; leave the callback out."
            )

    @override
    def on_round_end(self, run: Run, result: RoundResult) -> None:
        figure, better = improvement(result, self.monitor, self._best)
        if figure is not None and better > self.min_delta:
            self._best, self._waited = figure, 0
        else:
            self._waited += 1

    @override
    def ends_rounds(self, run: Run) -> bool:
        return self._waited >= self.patience

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best, self._waited = state["best"], state["waited"]
