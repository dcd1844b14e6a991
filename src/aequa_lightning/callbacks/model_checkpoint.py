"""Keeps the checkpoint of the best round."""

from pathlib import Path
from typing import Any

from typing_extensions import override

from aequa_lightning.callbacks.monitored import Monitor, check_monitor, improvement
from aequa_lightning.engine.callback import CollaborationCallback, RoundResult
from aequa_lightning.engine.run import Run
from aequa_lightning.run_folder.files import write_atomically


class ModelCheckpoint(CollaborationCallback):
    """Keeps the checkpoint of the best round as ``checkpoints/best.ckpt``, for ``aequa validate`` and ``aequa test``.

    Only the rounds of ``trainer.checkpoint_every`` and the last of ``trainer.max_rounds`` count, not one that is saved
    because a signal or ``EarlyStopping`` ends the run. Rewards are cut from the last round all the same, unless the
    mechanism pays the best one.

    Args:
        monitor: ``validation_accuracy`` of the full width, or ``train_loss``.

    Raises:
        InputError: There is no such figure.
    """

    def __init__(self, monitor: Monitor = "validation_accuracy") -> None:
        check_monitor(monitor, "ModelCheckpoint")
        self.monitor = monitor
        self._best: float | None = None
        self._improved = False

    @override
    def on_round_end(self, run: Run, result: RoundResult) -> None:
        # The state is part of the checkpoint, so it is complete before that is written.
        last = result.round >= run.config.max_rounds
        self._improved = False
        if last or result.round % run.config.checkpoint_every == 0:
            figure, better = improvement(result, self.monitor, self._best)
            if figure is not None and better > 0:
                self._best, self._improved = figure, True

    @override
    def on_checkpoint(self, run: Run, path: Path) -> None:
        if self._improved:
            write_atomically(path.with_name("best.ckpt"), path.read_bytes())

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best = state["best"]
