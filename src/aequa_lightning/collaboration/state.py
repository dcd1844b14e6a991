"""What a checkpoint of a run holds, and how a run goes on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import lightning

from aequa_lightning.collaboration.stack_size import Stacking
from aequa_lightning.errors import InputError

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
        "lr_scheduler": None if scheduler is None else (type(scheduler).__name__, scheduler.state_dict()),
        "callbacks": {type(callback).__name__: callback.state_dict() for callback in run.callbacks},
        "pytorch-lightning_version": lightning.__version__,
    }


def restore(run: Collaboration, state: Mapping[str, Any]) -> None:
    """Let a run go on where :func:`state_of` was taken.

    Raises:
        InputError: It is the state of a run with another seed, scheduler, server optimizer or kind of payment.
    """
    _check_same(run, state)
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
        scheduler.load_state_dict(state["lr_scheduler"][1])
        for group, rate in zip(scheduler.optimizer.param_groups, scheduler.get_last_lr(), strict=True):
            group["lr"] = rate
    for callback in run.callbacks:
        callback.load_state_dict(state["callbacks"].get(type(callback).__name__, {}))


def _check_same(run: Collaboration, state: Mapping[str, Any]) -> None:
    """Prove that the rounds to come belong to those that were."""
    scheduler, saved = run.local.scheduler, state["lr_scheduler"]
    paid = ["parts of the shared model" if models is None else "models" for models in (state["models"], run.models)]
    comparisons = {
        "seed_everything": (state["seed"], run.plan.seed),
        "lr_scheduler": (saved and saved[0], scheduler and type(scheduler).__name__),
        "a trainer.mechanism that pays with": paid,
    }
    for key, (then, now) in comparisons.items():
        if then != now:
            raise InputError(
                f"ckpt_path was saved with {key} {then}, now it is {now}; use the run's own config.yaml, or begin a "
                "new run."
            )
