"""The audit of a run folder: every file that participants were given, against the run's own state."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aequa_lightning.checks import check_parameters
from aequa_lightning.collaboration.checkpoint import load_last, load_round
from aequa_lightning.collaboration.payable import check_paid, load_payable, load_vector
from aequa_lightning.errors import InputError
from aequa_lightning.events import Event, latest_rounds, read_events
from aequa_lightning.files import write_json
from aequa_lightning.rewards.audit import audit_reward, audit_table, describe_audit, held_in_rounds
from aequa_lightning.rewards.downloads import FOLDER, audit_downloads, file_of
from aequa_lightning.rewards.manifest import read_manifest
from aequa_lightning.training import SlimmableClassifier

Server = Callable[[int, str], Mapping[str, Tensor] | None]


def audit_run(run_dir: Path, model: SlimmableClassifier, *, public_key: Path | None = None) -> bool:
    """Prove of each file of a finished run what it holds and what it does not; writes ``audit.json``.

    Args:
        run_dir: The run folder.
        model: The run's model.
        public_key: PEM file of the Ed25519 key that must have signed the manifest; None: any may have.

    Returns:
        Whether every file holds exactly what was earned.

    Raises:
        InputError: The run folder holds no finished run, or one that was prolonged and has not paid since, or its
            manifest is not what was signed.
    """
    manifest, state = read_manifest(run_dir / "rewards", public_key=public_key), load_last(run_dir / "checkpoints")
    if state is None:
        raise InputError(f"run_dir={str(run_dir)!r} holds no checkpoint to compare with; finish the run first.")
    check_paid(run_dir, manifest["round"], state)
    check_parameters(model, state)
    rounds = [
        event for event in latest_rounds(read_events(run_dir / "events.jsonl")) if event["round"] <= state["round"]
    ]
    names = [row["participant"] for row in manifest["rewards"]]
    findings = []
    for index, row in enumerate(manifest["rewards"]):
        _load(model, state, index, paid=True)
        findings.append(audit_reward(run_dir / "rewards", row, network=model.network))
    held = held_in_rounds(rounds)
    content = {"signature": public_key and "verified", **describe_audit(findings, model.network, held)}
    console = Console()
    console.print(audit_table(findings, held))
    if manifest["downloads"]:
        server = _server_before(run_dir, rounds, model, names, own=state["models"] is not None)
        downloads = audit_downloads(run_dir, rounds, manifest["downloads"], network=model.network, server=server)
        content |= {"downloads": vars(downloads), "sound": content["sound"] and not downloads.faults}
        console.print(*(downloads.faults or [downloads.summary()]), sep="\n", highlight=False, soft_wrap=True)
    if public_key is not None:
        console.print(f"signature verified by {public_key}", highlight=False, soft_wrap=True)
    write_json(run_dir / "audit.json", content)
    return content["sound"] is True


def _load(model: SlimmableClassifier, state: Mapping[str, Any], index: int, *, paid: bool) -> None:
    """Put into the model what a participant receives of a state: the server's parameters, or a model of its own.

    Args:
        model: The run's model.
        state: A checkpoint of the run.
        index: The participant.
        paid: Whether it receives a reward, or what the next round starts from.
    """
    models = state["models"]
    if paid:
        load_payable(model, state)
        models = models if state["payable"]["models"] is None else state["payable"]["models"]
    else:
        model.load_state_dict(state["state_dict"], strict=False)
    if models is not None:
        load_vector(model, models[index])


def _server_before(
    run_dir: Path, rounds: list[Event], model: SlimmableClassifier, names: list[str], *, own: bool
) -> Server:
    """Return a function that says of which full parameters a download must be a part; None where nobody knows any more.

    They are in the checkpoint of the round before, or else in the download of somebody else who held the full width.

    Args:
        run_dir: The run folder.
        rounds: The events of the rounds, in their order.
        model: The run's model, which is changed.
        names: All participants.
        own: Whether everybody was sent a model of its own.
    """
    whole = {
        event["round"]: file_of(event["round"], row["name"])
        for event in rounds
        for row in event["participants"]
        if row["width"] == 1 and not own
    }
    shapes = {name: parameter.shape for name, parameter in model.network.full.named_parameters()}
    state: dict[int, Mapping[str, Any] | None] = {}

    def server(number: int, name: str) -> Mapping[str, Tensor] | None:
        if number not in state:
            state.clear()  # One round at a time: the rounds come in their order.
            state[number] = load_round(run_dir / "checkpoints", number - 1)
        before = state[number]
        if before is not None:
            _load(model, before, names.index(name), paid=False)
            return dict(model.network.full.named_parameters())
        file = whole.get(number)
        if file is None or file == file_of(number, name):
            return None
        try:
            full = load_file(run_dir / FOLDER / file)
        except (OSError, SafetensorError):
            return None
        return full if {name: part.shape for name, part in full.items()} == shapes else None

    return server
