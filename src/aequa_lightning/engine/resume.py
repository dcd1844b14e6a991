"""Conversion of a run to the state in its checkpoints, and back on resume."""

from collections.abc import Mapping
from typing import Any

import lightning
from torch.optim import RMSprop
from torch.optim.lr_scheduler import LRScheduler

from aequa_lightning.engine.callback import Callbacks
from aequa_lightning.engine.cohort import CohortTrainer
from aequa_lightning.engine.local.buffers import buffers
from aequa_lightning.engine.local.optimizers import options_of, set_options
from aequa_lightning.engine.reward_source import RewardSource
from aequa_lightning.engine.run import Run, Stacking
from aequa_lightning.errors import InputError


def run_state(run: Run, cohort_trainer: CohortTrainer, callbacks: Callbacks) -> dict[str, Any]:
    """Return the state of a run for a checkpoint, as tensors and plain values."""
    run.load_server_parameters()
    scheduler = run.local.scheduler
    return {
        "kind": "collaboration",
        "round": run.round,
        "ended_early": any(callbacks.call("ends_rounds", run)),
        "seed": run.config.seed,
        "samples": run.samples,
        "seconds": run.seconds,
        "server": run.server.state_dict(),
        "cohort_trainer": cohort_trainer.state_dict(),
        "kept_state": _kept_state(run),
        "adversaries": run.adversary_host.state_dict(),
        "privacy": run.config.privacy_per_round,
        "privacy_history": run.private_average and run.private_average.history,
        "widths": run.widths,
        "models": run.models,
        "reward_source": vars(run.reward_source),
        "stacking": vars(run.stacking),
        # Statistics of norm layers are not saved: they are recomputed for each width that is evaluated.
        "state_dict": {name: value.detach().clone() for name, value in run.classifier.named_parameters()},
        "buffers": {name: value.detach().clone() for name, value in buffers(run.classifier).items()},
        "lr_scheduler": None if scheduler is None else _scheduled(scheduler),
        "callbacks": {name: callback.state_dict() for name, callback in callbacks.by_name()},
        "pytorch-lightning_version": lightning.__version__,
    }


def restore(run: Run, cohort_trainer: CohortTrainer, callbacks: Callbacks, state: Mapping[str, Any]) -> None:
    """Continue a run where :func:`run_state` was taken.

    Raises:
        InputError: The state belongs to a run with another seed, scheduler, server optimizer or kind of reward, or its
            tensors do not fit the run.
    """
    try:
        _restore(run, cohort_trainer, callbacks, state)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"ckpt_path does not fit the run ({type(error).__name__}: {str(error).splitlines()[0][:200]}); use the "
            "run's own config.yaml, or an older checkpoint."
        ) from error


def _restore(run: Run, cohort_trainer: CohortTrainer, callbacks: Callbacks, state: Mapping[str, Any]) -> None:
    _check_same(run, state)
    run.classifier.load_state_dict(state["state_dict"], strict=False)
    run.local.load_buffers(state["buffers"])
    run.parameters.copy_(run.local.parameters)
    run.server.load_state_dict(state["server"])
    cohort_trainer.load_state_dict(state["cohort_trainer"])
    run.adversary_host.load_state_dict(state["adversaries"], run.parameters)
    run.progress.round = state["round"]
    run.progress.widths = state["widths"]
    run.progress.stacking = Stacking(**state["stacking"])
    run.progress.reward_source = RewardSource(**state["reward_source"])
    run.progress.earlier_seconds = state["seconds"]
    if run.models is not None:
        run.models.copy_(state["models"])
    if run.private_average is not None:
        run.private_average.history = state["privacy_history"]
    scheduler = run.local.scheduler
    if scheduler is not None:
        scheduler.load_state_dict(state["lr_scheduler"]["state"])
        set_options(scheduler.optimizer, state["lr_scheduler"]["options"])
    for name, callback in callbacks.by_name():
        callback.load_state_dict(state["callbacks"].get(name, {}))


def _scheduled(scheduler: LRScheduler) -> dict[str, Any]:
    """Return a scheduler's kind and state, and the optimizer options that it may have set, such as learning rates."""
    options = options_of(scheduler.optimizer)
    return {"kind": type(scheduler).__name__, "state": scheduler.state_dict(), "options": options}


def _kept_state(run: Run) -> str | None:
    """Describe the state that participants keep between rounds, to compare it on resume; None: no state."""
    if not run.config.keeps_participant_state:
        return None
    correction, optimizer = type(run.config.correction).__name__, run.local.optimizer.optimizer
    if run.config.participant_state == "reset":
        return f"what {correction} needs"
    # Options that add state which the optimizer needs on resume. SGD starts without a momentum buffer if it is missing.
    more = ("amsgrad", "centered", "momentum") if isinstance(optimizer, RMSprop) else ("amsgrad", "centered")
    switches = [name for name in more if optimizer.defaults.get(name)]
    return f"what {correction} and {type(optimizer).__name__}({', '.join(switches)}) need"


def _check_same(run: Run, state: Mapping[str, Any]) -> None:
    """Check that the configuration fits the checkpoint.

    Raises:
        InputError: It does not.
    """
    scheduler, saved = run.local.scheduler, state["lr_scheduler"]
    paid = ["parts of the shared model" if models is None else "models" for models in (state["models"], run.models)]
    comparisons = {
        "seed_everything": (state["seed"], run.config.seed),
        "lr_scheduler": (saved and saved["kind"], scheduler and type(scheduler).__name__),
        "state that participants keep": (state["kept_state"], _kept_state(run)),
        "data that have participants' samples": (state["samples"], run.samples),
        "a trainer.mechanism that pays with": paid,
    }
    if state["round"] > run.config.max_rounds:
        raise InputError(
            f"ckpt_path was saved after round {state['round']}, but trainer.max_rounds={run.config.max_rounds}; give "
            "more rounds, or an earlier checkpoint."
        )
    for key, (then, now) in comparisons.items():
        if then != now:
            raise InputError(
                f"ckpt_path was saved with {key} {then}, now it is {now}; use the run's own config.yaml, or begin a "
                "new run."
            )
