"""What is looked at before any training starts, so that bad input costs nothing."""

import os
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from lightning.pytorch.loggers import WandbLogger

from aequa_lightning.callbacks.assessment.measures import Assessment
from aequa_lightning.engine.checkpoint import FORMAT, load_checkpoint, load_last
from aequa_lightning.engine.config import Plan
from aequa_lightning.engine.local.corrections import Scaffold
from aequa_lightning.engine.local.parameter_types import check_types
from aequa_lightning.engine.server.privacy import check_accountant
from aequa_lightning.engine.server.robust import RobustAggregator
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import Mechanism, PaidInRounds
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.run_folder.files import refuse_links
from aequa_lightning.runtime.paths import user_path
from aequa_lightning.slimmable.norm import check_modes

# A file system takes 255 bytes, of which endings and names of unfinished files need some.
LONGEST_NAME = 150
# Devices on Windows, and what lies beside the participants' own files.
RESERVED = {"con", "prn", "aux", "nul", "manifest", *(f"{kind}{n}" for kind in ("com", "lpt") for n in range(1, 10))}

# What commands read of a checkpoint before anything of the run is built.
PARTS_OF_STATE: dict[str, type | tuple[type, ...]] = {
    "round": int,
    "samples": list,
    "state_dict": dict,
    "callbacks": dict,
    "reward_source": dict,
    "models": (torch.Tensor, type(None)),
}


def check_parts(mechanism: Mechanism, plan: Plan, assessment: Assessment) -> None:
    """Prove that the parts a run is put together from go together.

    Args:
        mechanism: How participants are paid.
        plan: What to do.
        assessment: Which contributions are measured.

    Raises:
        InputError: Two of them do not.
    """
    paid = f"with trainer.mechanism={type(mechanism).__name__} participants"
    if isinstance(plan.aggregator, RobustAggregator) and mechanism.holds_widths:
        raise InputError(
            f"trainer.aggregator={type(plan.aggregator).__name__} compares whole updates, but {paid} hold parts; "
            "choose another aggregator."
        )
    if isinstance(plan.correction, Scaffold) and (mechanism.holds_widths or isinstance(mechanism, PaidInRounds)):
        raise InputError(
            f"trainer.correction=Scaffold compares gradients of one model, but {paid} hold different ones; choose "
            "FedProx."
        )
    if isinstance(plan.correction, Scaffold) and plan.adversaries:
        raise InputError(
            "trainer.adversaries change the updates that they send, but with trainer.correction=Scaffold something "
            "else is sent beside them, which would stay honest; choose FedProx."
        )
    if isinstance(plan.correction, Scaffold) and assessment.exclude_flagged:
        raise InputError(
            "trainer.assessment.exclude_flagged=true keeps updates out of the average, but with "
            "trainer.correction=Scaffold what was sent beside them has been used; choose FedProx."
        )
    if plan.privacy is not None:
        _check_private(mechanism, plan, paid, exclude_flagged=bool(assessment.exclude_flagged))
    if not plan.standalone:
        _check_without_references(mechanism, assessment)


def _check_without_references(mechanism: Mechanism, assessment: Assessment) -> None:
    """Prove that nothing goes by what participants reach alone."""
    alone = "trainer.standalone=false trains nobody alone, but"
    if mechanism.contribution == "standalone":
        raise InputError(
            f"{alone} trainer.mechanism={type(mechanism).__name__} goes by the measure 'standalone'; choose one with "
            "another contribution, such as SharedModel with contribution=data_share, or Aequa with "
            "contribution=cosine, objective=proportional and individually_rational=false."
        )
    if "standalone" in assessment.measures:
        raise InputError(f"{alone} trainer.assessment.measures names 'standalone'; leave it out.")
    if mechanism.individually_rational:
        raise InputError(
            f"{alone} trainer.mechanism.individually_rational=true promises no less than one reaches alone; set it to "
            "false."
        )


def _check_private(mechanism: Mechanism, plan: Plan, paid: str, *, exclude_flagged: bool) -> None:
    """Prove that everything the server gives away is made of noisy sums."""
    aggregator = type(plan.aggregator).__name__
    if isinstance(plan.aggregator, RobustAggregator):
        raise InputError(
            f"trainer.privacy adds noise to a sum, and trainer.aggregator={aggregator} takes none; choose FedAvg."
        )
    if plan.aggregator.weighting != "uniform":
        raise InputError(
            f"trainer.privacy bounds what one participant can change, but {aggregator} weights by samples; "
            "set trainer.aggregator.weighting=uniform."
        )
    if mechanism.holds_widths or isinstance(mechanism, PaidInRounds):
        raise InputError(f"trainer.privacy protects one model that all hold, but {paid} hold others; choose Aequa.")
    if isinstance(plan.correction, Scaffold):
        raise InputError(
            "trainer.correction=Scaffold hands out a mean to which trainer.privacy adds no noise; choose FedProx."
        )
    if exclude_flagged:
        raise InputError(
            "trainer.assessment.exclude_flagged=true lets one update decide whether another one is averaged, which "
            "trainer.privacy cannot bound; leave it false."
        )
    if plan.participants_per_round is not None and plan.participation.sampling != "poisson":
        raise InputError(
            f"trainer.privacy is accounted for where participants are chosen independently, but "
            f"trainer.participation.sampling={plan.participation.sampling}; choose poisson, or leave "
            "trainer.participants_per_round out."
        )
    check_accountant()


def check_loggers(loggers: Sequence[Any]) -> None:
    """Prove that loggers can send what they will be given.

    Raises:
        InputError: Weights & Biases wants a login that there is not.

    Example:
        >>> check_loggers([])
    """
    for logger in loggers:
        if not isinstance(logger, WandbLogger):
            continue
        mode = logger._wandb_init.get("mode") or os.environ.get("WANDB_MODE", "online")
        if logger._offline or mode != "online":
            continue
        from aequa_lightning.callbacks.wandb import check_login  # of an extra, which takes a second

        check_login("trainer.logger=WandbLogger")


def check_names(names: Sequence[str], participants: int) -> None:
    """Prove that participants' names can be names of files of their own, on any file system.

    Args:
        names: Of the data's participants.
        participants: How many there are.

    Raises:
        InputError: They cannot.

    Example:
        >>> check_names(["Ann", "Bob"], 2)
    """
    if len(names) != participants:
        raise InputError(f"data.names holds {len(names)} names for {participants} participants; give each one.")
    seen: dict[str, str] = {}
    for name in names:
        fault = _fault(name)
        if fault:
            raise InputError(f"data.names: {name[:60]!r} {fault}; files are called by it, choose another.")
        # Some file systems know no case and compose accents.
        same = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())
        if same in seen:
            raise InputError(
                f"data.names: {seen[same]!r} and {name!r} would share files where case or accents are not told apart; "
                "choose different names."
            )
        seen[same] = name


def _fault(name: str) -> str | None:
    """Return in words why a name is no name of a file; None where it is one."""
    if not isinstance(name, str) or not name.strip():
        return "is empty"
    if any(character in '/\\:*?"<>|' or not character.isprintable() for character in name):
        return "holds a separator or another character that file names may not hold"
    if name[0] in ".-~ " or name[-1] in ". ":
        return "begins with a dot, hyphen, tilde or blank, or ends with a dot or blank"
    if len(name.encode(errors="surrogatepass")) > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} bytes"
    if name.partition(".")[0].casefold() in RESERVED:
        return "is reserved"
    return None


def check_model(model: SlimmableClassifier) -> None:
    """Prove that participants can be paid with parts of a model.

    Raises:
        InputError: They cannot.
    """
    if model.norm == "private":
        raise InputError(
            "model.norm='private' has networks of the widths of the grid only, but fair rewards lie between them; "
            "choose 'shared', 'static' or 'group'. Lightning's own Trainer takes it."
        )
    check_types(model)
    check_modes(model.network.full)
    resting = [name or "the network" for name, part in model.network.full.named_modules() if not part.training]
    if resting:
        shown = ", ".join(resting[:3]) + (f" and {len(resting) - 3} more" if len(resting) > 3 else "")
        warnings.warn(
            f"model.backbone: {shown} in evaluation mode stay so while participants train, as with Lightning's "
            "Trainer; call .train() on the network to train as usual.",
            stacklevel=2,
        )


def check_writable(folder: Path, key: str = "trainer.run_dir") -> None:
    """Make a folder and prove that files there can be written and read.

    Args:
        folder: The folder.
        key: What names it in the configuration.

    Raises:
        InputError: It cannot.
    """
    refuse_links(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # By its name, as all files of a run: the umask may forbid to read what was written.
        probe = folder / f".{uuid4().hex}.tmp"
        try:
            probe.touch()
            probe.read_bytes()
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{key}={str(folder)!r} cannot be written and read ({os.strerror(error.errno or 0)}); choose another "
            "folder, or another umask."
        ) from error


def state_to_resume(run_dir: Path, ckpt_path: str | None) -> dict[str, Any] | None:
    """Read the state that a run goes on from.

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


def check_state(model: SlimmableClassifier, participants: int, state: dict[str, Any]) -> None:
    """Prove that a checkpoint belongs to the run that is configured.

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
    wrong = [key for key, kind in PARTS_OF_STATE.items() if key in state and not isinstance(state[key], kind)]
    if wrong:
        raise InputError(f"ckpt_path holds no proper {wrong[0]!r}; it is damaged or foreign. Use an older one.")
    if len(state["samples"]) != participants:
        raise InputError(
            f"ckpt_path was saved with {len(state['samples'])} participants, but data.participants={participants}; "
            "use the run's own config.yaml."
        )
    check_parameters(model, state)


def check_complete(state: dict[str, Any]) -> None:
    """Prove that a checkpoint has what is read of it without building the run.

    Raises:
        InputError: It has not.
    """
    missing = [key for key in PARTS_OF_STATE if key not in state]
    if missing:
        raise InputError(f"The last checkpoint lacks {missing[0]!r}; it is damaged or foreign. Use an older one.")


def check_same_privacy(plan: Plan, state: dict[str, Any]) -> None:
    """Prove that a checkpoint's rounds spent what the configured ones spend, so that the sum can be told.

    Raises:
        InputError: They did not.
    """
    if state["privacy"] != plan.spending:
        then, now = (_assigned(spending) for spending in (state["privacy"], plan.spending))
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


def check_parameters(model: SlimmableClassifier, state: dict[str, Any]) -> None:
    """Prove that a checkpoint holds every parameter of the model in its shape and type.

    Raises:
        InputError: It does not; the first difference is named.
    """
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    tensors = state.get("state_dict")
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise InputError("ckpt_path holds no state_dict of tensors; give a checkpoint of the run, or 'last'.")
    saved = {name: tuple(value.shape) for name, value in tensors.items()}
    wrong = [name for name, shape in expected.items() if saved.get(name) != shape]
    types = {name: value.dtype for name, value in model.named_parameters()}
    other = [name for name, dtype in types.items() if name not in wrong and state["state_dict"][name].dtype != dtype]
    if other and not wrong:
        raise InputError(
            f"ckpt_path does not fit the model: {other[0]} is {state['state_dict'][other[0]].dtype} in the file, but "
            f"{types[other[0]]} in the model ({len(other)} parameters differ); use the run's own config.yaml."
        )
    if wrong:
        name = wrong[0]
        raise InputError(
            f"ckpt_path does not fit the model: {name} is {saved.get(name, 'missing')} in the file, but "
            f"{expected[name]} in the model ({len(wrong)} parameters differ); use the run's own config.yaml."
        )
