"""Proof of what reward files hold: each is written again and must be the same, so that nothing else can be in it."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.files.checkpoint import export_program, reward_content, serialize
from aequa_lightning.rewards.files.differences import differences, statistics_differ
from aequa_lightning.rewards.files.held import widths_received
from aequa_lightning.rewards.files.leaks import count_withheld
from aequa_lightning.rewards.files.manifest import NAME
from aequa_lightning.rewards.files.signing import signature_of
from aequa_lightning.run_folder.archive import load_archive
from aequa_lightning.run_folder.files import sha256
from aequa_lightning.runtime.terminal import verbatim
from aequa_lightning.slimmable import SlicePlan, SlimmableModel
from aequa_lightning.slimmable.norm import statistics


@dataclass(frozen=True)
class Finding:
    """What the audit of one participant's files found.

    Attributes:
        participant: Name.
        width: Width according to the manifest; None where it names none.
        layers: The share of each layer, where they differ.
        parameters: Number of parameters that were earned.
        files: Whether each file holds exactly what was earned, by name.
        faults: What is wrong, in words; empty when the files hold exactly what was earned and the figures are true.
    """

    participant: str
    width: float | None
    layers: Mapping[str, float] | None
    parameters: int
    files: Mapping[str, bool]
    faults: tuple[str, ...]


@dataclass
class Earned:
    """What a participant has earned, from which its files are written again.

    Attributes:
        network: The network of its width, with the parameters of the run's last checkpoint.
        hyper_parameters: What the checkpoint says of the network.
        about: What it says of its owner and of the inputs.
        example_input: A batch of one.
        versions: Of torch and Lightning that the files were written with.
        by_data: Whether the statistics of norms and the scales of inputs come from the data. Otherwise they are known
            by their shape only, and taken from the file.
        plan: What the width takes.
        full: The server's parameters, by name.
        programs: Programs that were exported before, by the SHA-256 of the network's tensors; changed in place.
        card: The model card.
    """

    network: nn.Module
    hyper_parameters: Mapping[str, Any]
    about: Mapping[str, Any]
    example_input: Tensor
    versions: Mapping[str, str]
    by_data: bool
    plan: SlicePlan
    full: Mapping[str, Tensor]
    programs: dict[str, bytes] = field(default_factory=dict)
    card: str = ""


def audit_reward(folder: Path, row: Mapping[str, Any], earned: Earned) -> Finding:
    """Write a participant's files again and compare: the checkpoint, and program and model card where there are.

    Args:
        folder: The ``rewards`` folder.
        row: The participant's sound row of the manifest.
        earned: What it has earned; its network takes over the statistics of the checkpoint.

    Returns:
        The finding; a file that cannot be read is a fault, not an error.
    """
    files = {row["file"]: (row["sha256"], _checkpoint_faults)}
    if "program" in row:
        files[row["program"]] = (row["program_sha256"], _program_faults)
    if "card" in row:
        files[row["card"]] = (row["card_sha256"], _card_faults)
    faults: dict[str, list[str]] = {}
    for file, (digest, compare) in files.items():
        if not (path := folder / file).is_file():
            faults[file] = ["is missing"]
            continue
        faults[file] = [] if sha256(path) == digest else ["is not the file of the manifest (SHA-256)"]
        faults[file] += compare(path, earned)
        if file == row["file"] and path.stat().st_size != row["bytes"]:
            faults[file].append(f"has {path.stat().st_size} bytes, the manifest says {row['bytes']}")
    return Finding(
        row["participant"],
        row["width"],
        row.get("layers"),
        sum(value.numel() for value in earned.network.parameters()),
        {file: not found for file, found in faults.items()},
        tuple(f"{file} {fault}" for file, found in faults.items() for fault in found),
    )


def _checkpoint_faults(path: Path, earned: Earned) -> list[str]:
    """Compare a checkpoint with the one that is written again."""
    try:
        content = load_archive(path)
    except Exception as error:  # torch raises many kinds
        return [f"cannot be read: {type(error).__name__}"]
    if not isinstance(content, dict):
        return [f"holds a {type(content).__name__}, not a checkpoint"]
    faults = list(_take_statistics(content.get("state_dict"), earned))
    expected = reward_content(
        earned.network.state_dict(),
        hyper_parameters=earned.hyper_parameters,
        about=earned.about if earned.by_data else {**earned.about, **_scales(content.get("about"))},
        version=earned.versions["lightning"],
    )
    written = path.read_bytes()
    if serialize(expected) != written:
        faults += _told_apart(written, list(differences(content, expected)), earned)
    return faults


def _take_statistics(tensors: Any, earned: Earned) -> Iterator[str]:
    """Let the network have the file's statistics of norms where they are right; yield which are not."""
    for name, expected in statistics(earned.network).items():
        found = tensors.get(f"network.{name}") if isinstance(tensors, dict) else None
        if not isinstance(found, Tensor) or statistics_differ(found, expected, by_value=earned.by_data):
            yield f"holds other statistics {name} than the validation part gives"
        else:
            expected.copy_(found)


def _scales(about: Any) -> dict[str, Any]:
    """Return mean and standard deviation that a file names, if they are no more than a number per channel."""
    if not isinstance(about, dict):
        return {}
    scales = {key: about.get(key) for key in ("mean", "std")}
    plain = all(
        isinstance(value, tuple) and all(isinstance(part, float) for part in value) for value in scales.values()
    )
    return scales if plain or set(scales.values()) == {None} else {}


def _program_faults(path: Path, earned: Earned) -> list[str]:
    """Compare a program with the one that is exported again."""
    tensors = hashlib.sha256(serialize(earned.network.state_dict())).hexdigest()
    if tensors not in earned.programs:
        try:
            earned.programs[tensors] = export_program(earned.network, earned.example_input)
        except InputError as error:
            return [f"cannot be compared: {error}"]
    written = path.read_bytes()
    return [] if written == earned.programs[tensors] else _told_apart(written, [], earned)


def _card_faults(path: Path, earned: Earned) -> list[str]:
    """Compare a model card with the one that is written again."""
    written = path.read_bytes()
    return [] if written == earned.card.encode() else _told_apart(written, [], earned)


def _told_apart(written: bytes, found: list[str], earned: Earned) -> list[str]:
    """Say in words what is wrong with a file that is not the one that is written again."""
    if count := count_withheld(written, earned.plan, earned.full):
        found.append(f"holds withheld parameters in {count} places")
    if not found:
        found.append("is not, byte for byte, what was earned")
    if (then := earned.versions["torch"]) != torch.__version__:
        found.append(f"was written with torch {then}; this is {torch.__version__}, which may write otherwise")
    return found


def folder_faults(folder: Path, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what lies in ``rewards/`` and is named nowhere in the manifest, or is a link.

    Args:
        folder: The ``rewards`` folder.
        rows: The sound rows of the manifest.
    """
    known = {NAME, signature_of(Path(NAME)).name}
    known |= {row[key] for row in rows for key in ("file", "program", "card") if key in row}
    faults = []
    for path in sorted(folder.iterdir()):
        if path.name not in known:
            faults.append(f"rewards/{path.name} is not named in the manifest")
        elif path.is_symlink() or not path.is_file():
            faults.append(f"rewards/{path.name} is a link or a folder")
    return faults


def held_in_rounds(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the widest sub-network that each participant has received in any round.

    Args:
        events: The run's record.

    Example:
        >>> held_in_rounds([{"event": "round", "participants": [{"name": "a", "width": 0.5}]}])
        {'a': 0.5}
    """
    widest: dict[str, float] = {}
    for event in events:
        if event["event"] == "round":
            for name, width in widths_received(event).items():
                widest[name] = max(widest.get(name, 0.0), width)
    return widest


def describe_audit(
    findings: Sequence[Finding],
    network: SlimmableModel,
    held: Mapping[str, float],
    best: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Return the content of ``audit.json``, with what participants could rebuild together.

    Sub-networks are nested, so a coalition that pools its files holds the widest of them and no more; the marks of all
    files are united and counted to show it.

    Args:
        findings: One for each participant.
        network: The shared model.
        held: Widest sub-network that each participant received in any round.
        best: The best model that each participant received in any round, as far as that is known.
    """
    united: dict[str, Tensor] = {}
    widths = {finding.width: finding.layers or finding.width for finding in findings if finding.width is not None}
    for width in widths.values():
        plan = network.plan(width)
        marks = {
            name: torch.zeros(parameter.shape, dtype=torch.bool) for name, parameter in network.full.named_parameters()
        }
        plan.put(marks, {name: torch.ones(plan.shapes[name], dtype=torch.bool) for name in marks})
        united = {name: mark | united[name] if name in united else mark for name, mark in marks.items()}
    return {
        "sound": not any(finding.faults for finding in findings),
        "rewards": [
            {
                **vars(finding),
                "held_in_rounds": held.get(finding.participant),
                "best_held": best.get(finding.participant),
            }
            for finding in findings
        ],
        "coalition": {
            "rebuilds": sum(int(mark.sum()) for mark in united.values()),
            "widest_reward": max((finding.parameters for finding in findings), default=0),
            "full": network.plan(1.0).numel(),
        },
    }


def audit_table(
    findings: Sequence[Finding], held: Mapping[str, float], best: Mapping[str, Mapping[str, float]]
) -> Table:
    """Return the findings as a table for the terminal.

    Args:
        findings: One for each participant.
        held: Widest sub-network that each participant received in any round.
        best: The best model that each participant received in any round, as far as that is known.
    """
    table = Table(box=SIMPLE_HEAD, padding=0, caption_justify="left", caption_style="")
    table.add_column("participant", no_wrap=True)
    for heading in ("width", "parameters", "widest held in a round", "best held in a round"):
        table.add_column(heading, justify="right")
    table.add_column(" files")
    if any(finding.layers for finding in findings):
        table.caption = "* layers have different widths, see manifest.json"
    for finding in findings:
        table.add_row(
            verbatim(finding.participant),
            "?" if finding.width is None else f"{finding.width:.4g}{'*' if finding.layers else ''}",
            f"{finding.parameters:,}",
            f"{held.get(finding.participant, 0.0):.4g}",
            _best(best.get(finding.participant)),
            verbatim(f" {'; '.join(finding.faults) or 'sound'}"),
        )
    return table


def _best(held: Mapping[str, float] | None) -> str:
    return "?" if held is None else f"{100 * held['validation_accuracy']:.1f}% in round {held['round']:g}"
