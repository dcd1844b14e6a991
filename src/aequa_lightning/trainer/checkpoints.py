"""Checkpoints that a run is continued or paid from: found, read, and compared with the configuration."""

from pathlib import Path
from typing import Any

import torch

from aequa_lightning.callbacks.payout.measured_curve import MeasuredCurve
from aequa_lightning.engine.checkpoint import FORMAT, load_checkpoint, load_last
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.reward_source import check_paid
from aequa_lightning.errors import InputError
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.rewards.files.figures import certificate_faults
from aequa_lightning.run_folder.damaged_files import possibly_damaged, read_json
from aequa_lightning.run_folder.events import read_events
from aequa_lightning.runtime.paths import user_path

# Entries that commands read before anything of the run is built, with their types.
ENTRIES: dict[str, type | tuple[type, ...]] = {
    "round": int,
    "samples": list,
    "state_dict": dict,
    "callbacks": dict,
    "reward_source": dict,
    "models": (torch.Tensor, type(None)),
}


def state_to_resume(run_dir: Path, ckpt_path: str | None) -> dict[str, Any] | None:
    """Read the state that a run is resumed from.

    Args:
        run_dir: The run folder.
        ckpt_path: A checkpoint, ``last``, or None for a new run.

    Returns:
        The state, or None to start from the beginning.

    Raises:
        InputError: A new run would overwrite another, or the checkpoint cannot be read.
    """
    if ckpt_path == "last":
        return load_last(run_dir / "checkpoints")
    own = ckpt_path is not None and user_path(ckpt_path, "ckpt_path").resolve().is_relative_to(run_dir.resolve())
    if (run_dir / "events.jsonl").exists() and not own:
        raise InputError(
            f"trainer.run_dir={str(run_dir)!r} already holds a run; go on with --ckpt_path last, "
            "or choose another folder."
        )
    return None if ckpt_path is None else load_checkpoint(user_path(ckpt_path, "ckpt_path"))


def state_to_pay_again(
    config: RunConfig, model: SlimmableModule, participants: int
) -> tuple[dict[str, Any], MeasuredCurve]:
    """Read the last state of a finished run, and the accuracies by width that were measured when it ended.

    Args:
        config: What the run is asked to do.
        model: The run's model.
        participants: Their number.

    Raises:
        InputError: The run folder holds no finished run, or one of the two is damaged.
    """
    curve_file, state = config.run_dir / "allocation.json", load_last(config.run_dir / "checkpoints")
    if state is None or not curve_file.is_file():
        raise InputError(f"run_dir={str(config.run_dir)!r} holds no finished run; finish it with --ckpt_path last.")
    with possibly_damaged(curve_file):
        content = read_json(curve_file)
        paid_after, measured = content["round"], MeasuredCurve.of_allocation(content)
        faults = certificate_faults(content, read_events(config.run_dir / "events.jsonl"))
    if faults:
        raise InputError(f"{curve_file} {'; '.join(faults)}; write it again with `aequa fit --ckpt_path last`.")
    check_complete(state)
    check_state(model, participants, state)
    check_paid(config.run_dir, paid_after, state)
    if state["round"] < config.max_rounds and not state.get("ended_early", False):
        raise InputError(
            f"run_dir={str(config.run_dir)!r} stands after round {state['round']} of "
            f"trainer.max_rounds={config.max_rounds}; finish it with --ckpt_path last."
        )
    return state, measured


def check_state(model: SlimmableModule, participants: int, state: dict[str, Any]) -> None:
    """Check that a checkpoint belongs to the configured run.

    Args:
        model: The configured model.
        participants: Number of participants of the configured data.
        state: Content of the checkpoint.

    Raises:
        InputError: It does not.
    """
    if state.get("kind") != "collaboration":
        raise InputError("ckpt_path holds no state of a run; give one of its checkpoints, or 'last'.")
    if state.get("format") != FORMAT:
        raise InputError(
            f"ckpt_path has format {state.get('format')!r:.40}, this version reads {FORMAT}; finish the run with the "
            "version that began it."
        )
    wrong = [key for key, kind in ENTRIES.items() if key in state and not isinstance(state[key], kind)]
    if wrong:
        raise InputError(f"ckpt_path holds no proper {wrong[0]!r}; it is damaged or foreign. Use an older one.")
    if len(state["samples"]) != participants:
        raise InputError(
            f"ckpt_path was saved with {len(state['samples'])} participants, but data.participants={participants}; "
            "use the run's own config.yaml."
        )
    check_parameters(model, state)


def check_complete(state: dict[str, Any]) -> None:
    """Check that a checkpoint has every entry that is read before the run is built.

    Raises:
        InputError: One is missing.
    """
    missing = [key for key in ENTRIES if key not in state]
    if missing:
        raise InputError(f"The last checkpoint lacks {missing[0]!r}; it is damaged or foreign. Use an older one.")


def check_same_privacy(config: RunConfig, state: dict[str, Any]) -> None:
    """Check that a checkpoint's rounds spent as much privacy as the configured ones, else their sum is unknown.

    Raises:
        InputError: They spent another amount.
    """
    if state["privacy"] != config.privacy_per_round:
        then, now = (_assigned(spending) for spending in (state["privacy"], config.privacy_per_round))
        raise InputError(
            f"ckpt_path was trained with {then}, now it is {now}: what both spend together cannot be told. Go on as "
            "it was, or begin a new run."
        )


def _assigned(spending: dict[str, float | None] | None) -> str:
    if spending is None:
        return "trainer.privacy=null"
    return (
        f"trainer.privacy.noise_multiplier={spending['noise_multiplier']} and "
        f"trainer.participants_per_round={spending['participants_per_round']}"
    )


def check_parameters(model: SlimmableModule, state: dict[str, Any]) -> None:
    """Check that a checkpoint holds every parameter of the model in its shape and type.

    Raises:
        InputError: It does not; the message names the first difference.
    """
    tensors = state.get("state_dict")
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise InputError("ckpt_path holds no state_dict of tensors; give a checkpoint of the run, or 'last'.")
    for kind in (lambda tensor: tuple(tensor.shape), lambda tensor: tensor.dtype):
        expected = {name: kind(parameter) for name, parameter in model.named_parameters()}
        saved = {name: kind(tensor) for name, tensor in tensors.items()}
        wrong = [name for name in expected if saved.get(name) != expected[name]]
        if wrong:
            name = wrong[0]
            raise InputError(
                f"ckpt_path does not fit the model: {name} is {saved.get(name, 'missing')} in the file, but "
                f"{expected[name]} in the model ({len(wrong)} parameters differ); use the run's own config.yaml."
            )
