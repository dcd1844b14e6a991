"""What a checkpoint of a run holds, and how a run goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lightning

from aequa_lightning.collaboration.stack_size import Stacking

if TYPE_CHECKING:
    from aequa_lightning.collaboration.engine import Collaboration


def state_of(run: Collaboration) -> dict[str, Any]:
    """Return everything a resumed run needs, as tensors and plain values."""
    run.load_server_parameters()
    scheduler = run.local.scheduler
    return {
        "kind": "collaboration",
        "round": run.round,
        "participants": run.data.participants,
        "seed": run.plan.seed,
        "seconds": run.seconds,
        "server": run.server.state_dict(),
        "hosting": run.hosting.state_dict(),
        "privacy": run.plan.spending,
        "widths": run.widths,
        "models": run.models,
        "stacking": vars(run.stacking),
        # Statistics are left out: they are taken anew for whatever width is evaluated.
        "state_dict": {name: value.detach().clone() for name, value in run.classifier.named_parameters()},
        "lr_scheduler": None if scheduler is None else scheduler.state_dict(),
        "callbacks": {type(callback).__name__: callback.state_dict() for callback in run.callbacks},
        "pytorch-lightning_version": lightning.__version__,
    }


def restore(run: Collaboration, state: Mapping[str, Any]) -> None:
    """Let a run go on where :func:`state_of` was taken."""
    run.classifier.load_state_dict(state["state_dict"], strict=False)
    run.parameters.copy_(run.local.parameters)
    run.server.load_state_dict(state["server"])
    run.hosting.load_state_dict(state["hosting"])
    run.round = state["round"]
    run.widths = state["widths"]
    run.stacking = Stacking(**state["stacking"])
    if run.models is not None:
        run.models.copy_(state["models"])
    run.began -= state["seconds"]
    scheduler = run.local.scheduler
    if scheduler is not None:
        scheduler.load_state_dict(state["lr_scheduler"])
        for group, rate in zip(scheduler.optimizer.param_groups, scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
    for callback in run.callbacks:
        callback.load_state_dict(state["callbacks"].get(type(callback).__name__, {}))
