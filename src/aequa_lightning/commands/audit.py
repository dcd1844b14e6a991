"""``aequa audit``: compares every file that participants were given with the run's own state."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import TensorDataset

from aequa_lightning.callbacks.assessment.recorded import paid_in_state
from aequa_lightning.data import CollaborativeData
from aequa_lightning.data.loaded import data_name
from aequa_lightning.engine.checkpoint import load_last, load_round
from aequa_lightning.engine.evaluation import input_batches, score_of
from aequa_lightning.engine.reward_source import check_paid, load_reward_source, load_vector
from aequa_lightning.errors import InputError
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.modules.task import Task
from aequa_lightning.rewards.files.audit import (
    Earned,
    Finding,
    audit_reward,
    audit_table,
    describe_audit,
    folder_faults,
    held_in_rounds,
)
from aequa_lightning.rewards.files.card import CardFacts, TaskFacts, model_card, recorded_facts
from aequa_lightning.rewards.files.downloads import FOLDER, audit_downloads, file_of
from aequa_lightning.rewards.files.figures import accuracy_deviates, allocation_faults, certificate_faults
from aequa_lightning.rewards.files.held import best_held, held_faults
from aequa_lightning.rewards.files.manifest import NAME, REMEDY, manifest_faults, read_manifest, row_faults
from aequa_lightning.rewards.files.messages import message_faults
from aequa_lightning.run_folder.damaged_files import possibly_damaged, read_json
from aequa_lightning.run_folder.events import Event, latest_rounds, read_events
from aequa_lightning.run_folder.files import write_json
from aequa_lightning.runtime.terminal import PlainConsole
from aequa_lightning.slimmable import Width
from aequa_lightning.trainer.checkpoints import check_complete, check_state

Server = Callable[[int, str], Mapping[str, Tensor] | None]
# Entries of the manifest that name a file, and those that hold its digest.
REWARD_FILES = {"file": "sha256", "program": "program_sha256", "card": "card_sha256"}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Parts:
    """The data that figures and statistics are taken from: validation and test part."""

    validation: TensorDataset
    test: TensorDataset


def audit_run(
    run_dir: Path, model: SlimmableModule, data: CollaborativeData, *, public_key: Path | None = None
) -> bool:
    """Check what each reward file of a finished run holds and does not hold; write ``audit.json``.

    Each reward file is written again from the last checkpoint, the width in the manifest and the data, and must be the
    same. Where the data are not at hand, the statistics of norms and the scales of inputs are known by their shape
    only, and no accuracy is measured.

    Args:
        run_dir: The run folder.
        model: The run's model.
        data: The run's data.
        public_key: PEM file of the Ed25519 key that must have signed the manifest; None: any may have.

    Returns:
        Whether every file holds exactly what was earned.

    Raises:
        InputError: The run folder holds no finished run, or one that was prolonged and has not paid since, or its
            manifest is not what was signed.
    """
    folder = run_dir / "rewards"
    manifest, state = read_manifest(folder, public_key=public_key), load_last(run_dir / "checkpoints")
    if state is None:
        raise InputError(f"run_dir={str(run_dir)!r} holds no checkpoint to compare with; finish the run first.")
    check_complete(state)
    check_state(model, data.participants, state)
    check_paid(run_dir, manifest["round"], state)
    events = read_events(run_dir / "events.jsonl")
    rounds = [event for event in latest_rounds(events) if event["round"] <= state["round"]]
    parts = _parts(data)
    others = list(manifest_faults(manifest, size=(folder / NAME).stat().st_size))
    rows = [row for row in manifest["rewards"] if not row_faults(row)]
    names = [row["participant"] for row in rows]
    if len(manifest["rewards"]) != len(state["samples"]) or (isinstance(parts, Parts) and names != list(data.names)):
        others.append(f"{NAME} does not name each participant of the run once and in order")
    others += folder_faults(folder, rows)
    with possibly_damaged(run_dir / "events.jsonl", REMEDY):
        sizes = (len(parts.validation), len(parts.test)) if isinstance(parts, Parts) else None
        versions = manifest.get("versions") or {}
        facts = recorded_facts(manifest["round"], data_name(data), versions, events, sizes=sizes)
    findings = _findings(folder, manifest, model, data, state=state, parts=parts, facts=facts)
    others += _allocation_faults(run_dir, rows, events, state, parts)
    # Of models of everybody's own only the rewards are measured.
    held, best = (
        held_in_rounds(rounds),
        {} if state["models"] is not None else best_held(rounds, last=manifest["round"]),
    )
    others += held_faults(rows, best)
    content = {"signature": public_key and "verified", **describe_audit(findings, model.network, held, best)}
    console = PlainConsole()
    console.print(audit_table(findings, held, best))
    if manifest["downloads"]:
        server = _server_before(run_dir, rounds, model, names, own=state["models"] is not None)
        downloads = audit_downloads(run_dir, rounds, manifest["downloads"], network=model.network, server=server)
        content |= {"downloads": vars(downloads)}
        others += downloads.faults
        if not downloads.faults:
            _print(console, downloads.summary())
    reward_digests = {row[key]: row[digest] for row in rows for key, digest in REWARD_FILES.items() if key in row}
    others += message_faults(
        run_dir, rounds, downloads=manifest["downloads"], rewards=reward_digests, network=model.network
    )
    if public_key is not None:
        _print(console, f"signature verified by {public_key}")
    if not isinstance(parts, Parts):
        _print(console, f"data not at hand, accuracies and statistics of norms not compared: {parts}")
    content |= {"faults": others, "data": None if isinstance(parts, Parts) else parts}
    content["sound"] = content["sound"] and not others
    write_json(run_dir / "audit.json", content)
    _print(console, *others, _verdict(findings, others, sound=content["sound"] is True))
    return content["sound"] is True


def _print(console: PlainConsole, *lines: str) -> None:
    console.print(*lines, sep="\n", soft_wrap=True)


def _verdict(findings: Sequence[Finding], others: Sequence[str], *, sound: bool) -> str:
    """Return the last line: one word and how many files hold what was earned."""
    files = [fine for finding in findings for fine in finding.files.values()]
    counts = f"{sum(files)} of {len(files)} reward files hold exactly what was earned"
    if sound:
        return f"sound: {counts}"
    faults = len(others) + sum(len(finding.faults) for finding in findings)
    return f"unsound: {counts}; {faults} {'fault' if faults == 1 else 'faults'}, see audit.json"


def _parts(data: CollaborativeData) -> Parts | str:
    """Return the parts of the data, or the reason why they are not available."""
    try:
        data.prepare_data()
        return Parts(data.validation(), data.test())
    except (InputError, OSError) as error:
        return str(error)


def _findings(
    folder: Path,
    manifest: Mapping[str, Any],
    model: SlimmableModule,
    data: CollaborativeData,
    *,
    state: Mapping[str, Any],
    parts: Parts | str,
    facts: CardFacts,
) -> list[Finding]:
    """Examine the files of every row of the manifest."""
    findings, network = [], model.network
    allocation = folder.parent / "allocation.json"
    with possibly_damaged(allocation, REMEDY):
        contributions = {
            person["name"]: float(person["contribution"]) for person in read_json(allocation)["participants"]
        }
    versions = {"torch": "?", "lightning": "?", **(manifest.get("versions") or {})}
    programs: dict[str, bytes] = {}
    for index, row in enumerate(manifest["rewards"]):
        faults = row_faults(row)
        width: Width = 1.0 if faults else row.get("layers") or row["width"]
        if not faults and not _has(model, width):
            faults.append(f"{row['file']} is of width {row['width']}, which this network cannot have")
        if faults or index >= len(state["samples"]):
            name = str(row.get("participant")) if isinstance(row, dict) else "?"
            findings.append(Finding(name, None, None, 0, {}, tuple(faults)))
            continue
        _load(model, state, index, paid=True)
        if isinstance(parts, Parts) and network.has_statistics:
            network.recalibrate(input_batches(model, parts.validation, CPU), [width])
        earned = Earned(
            network.extract(width, fresh_statistics=not isinstance(parts, Parts)).eval(),
            model.reward_hparams(row["width"], row.get("layers")),
            {"participant": row["participant"], "mean": data.mean, "std": data.std, **data.owner_facts(index)},
            network.example_input,
            versions,
            by_data=isinstance(parts, Parts),
            plan=network.plan(width),
            full=dict(network.full.named_parameters()),
            programs=programs,
        )
        earned.card = model_card(
            row,
            facts,
            task=TaskFacts.of(model),
            hyper_parameters=earned.hyper_parameters,
            parameters=earned.plan.numel(),
            contribution=contributions.get(row["participant"], math.nan),
        )
        finding = audit_reward(folder, row, earned)
        figures = [] if isinstance(parts, str) else list(_accuracy_faults(row, earned, parts, model))
        findings.append(Finding(**{**vars(finding), "faults": (*finding.faults, *figures)}))
    return findings


def _has(model: SlimmableModule, width: Width) -> bool:
    try:
        return model.network.has(width)
    except InputError:
        return False


def _accuracy_faults(row: Mapping[str, Any], earned: Earned, parts: Parts, task: Task) -> Iterator[str]:
    """Yield which accuracies of the manifest are others than the reward reaches."""
    for name, part in (("validation", parts.validation), ("test", parts.test)):
        reached = score_of(task, earned.network, part, device=CPU).value
        if accuracy_deviates(row[f"{name}_accuracy"], reached, len(part)):
            yield f"{NAME} says {name} accuracy {row[f'{name}_accuracy']:g}, the reward reaches {reached:g}"


def _allocation_faults(
    run_dir: Path, rows: Sequence[Mapping[str, Any]], events: Sequence[Event], state: Mapping[str, Any], parts: Any
) -> list[str]:
    """Compare ``allocation.json`` with the manifest, the checkpoint and the record."""
    path = run_dir / "allocation.json"
    with possibly_damaged(path, REMEDY):
        results = [event for event in events if event["event"] == "standalone"]
        alone = {result["participant"]: float(result["validation_accuracy"]) for result in results}
        told = read_json(path)
        # Of all participants, for rows of the manifest may be missing.
        standalone = [alone[person["name"]] for person in told["participants"]] if alone else None
        payout = [event for event in events if event["event"] == "contributions"][-1]
        contributions = paid_in_state(state, str(payout["paid_by"]), standalone=standalone)
        samples = len(parts.validation) if isinstance(parts, Parts) else math.inf
        faults = allocation_faults(told, rows, contributions=contributions, standalone=standalone, samples=samples)
        others = [
            f"{key} is {told[key]!r:.40}, not {payout[key]!r}"
            for key in ("objective", "slope")
            if told[key] != payout[key]
        ]
        return [f"{path.name} {fault}" for fault in (*faults, *others, *certificate_faults(told, events))]


def _load(model: SlimmableModule, state: Mapping[str, Any], index: int, *, paid: bool) -> None:
    """Put into the model what a participant receives of a state: the server's parameters, or a model of its own.

    Args:
        model: The run's model.
        state: A checkpoint of the run.
        index: The participant.
        paid: Whether it receives a reward, or what the next round starts from.
    """
    models = state["models"]
    if paid:
        load_reward_source(model, state)
        models = models if state["reward_source"]["models"] is None else state["reward_source"]["models"]
    else:
        model.load_state_dict(state["state_dict"], strict=False)
    if models is not None:
        load_vector(model, models[index])


def _server_before(
    run_dir: Path, rounds: list[Event], model: SlimmableModule, names: list[str], *, own: bool
) -> Server:
    """Return a function that gives the full parameters that a download must be a part of; None if they are lost.

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
            state.clear()  # Rounds come in order, so one at a time is kept.
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
