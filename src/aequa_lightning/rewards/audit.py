"""Proof of what a reward file holds, and that it holds nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from aequa_lightning.files import sha256
from aequa_lightning.slimmable import SlicePlan, SlimmableModel

CHECKPOINT_KEYS = frozenset(
    ("kind", "state_dict", "hyper_parameters", "about", "pytorch-lightning_version", "epoch", "global_step")
)

# Bytes that are looked for at a time.
WORD = 8


@dataclass(frozen=True)
class Finding:
    """What the audit of one participant's files found.

    Attributes:
        participant: Name.
        width: Width according to the manifest.
        layers: The share of each layer, where they differ.
        parameters: Number of parameters in the file.
        faults: What is wrong, in words; empty when the files hold exactly what was earned.
    """

    participant: str
    width: float
    layers: Mapping[str, float] | None
    parameters: int
    faults: tuple[str, ...]


def audit_reward(folder: Path, row: Mapping[str, Any], *, network: SlimmableModel) -> Finding:
    """Examine a participant's checkpoint, and its program if there is one.

    Args:
        folder: The ``rewards`` folder.
        row: The participant's row of the manifest.
        network: The shared model with the server's parameters.

    Returns:
        The finding; a file that cannot be read is a fault, not an error.
    """
    layers = row.get("layers")
    plan, full = network.plan(layers or row["width"]), dict(network.full.named_parameters())
    narrow = network.extract(layers or row["width"], fresh_statistics=True)
    statistics = {name: tuple(buffer.shape) for name, buffer in narrow.named_buffers()}
    checkpoint = folder / row["file"]
    digests = {checkpoint: row["sha256"]}
    if "program" in row:
        digests[folder / row["program"]] = row["program_sha256"]
    faults = [
        f"{path.name} {'is missing' if not path.is_file() else 'is not the file of the manifest (SHA-256)'}"
        for path, digest in digests.items()
        if not path.is_file() or sha256(path) != digest
    ]
    withheld, earned = withheld_words(plan, full), plan.extract(full)
    # Numbers that training has left alone, such as a norm's 1.0, are on both sides, and prove nothing.
    own = b"".join(_bytes(value) for value in earned.values())
    withheld = withheld[~occurring(own, withheld)]
    for path in digests:
        if path.is_file() and (count := count_words(path.read_bytes(), withheld)):
            faults.append(f"{path.name} holds withheld parameters in {count} places")
    parameters = 0
    if checkpoint.is_file():
        try:
            content = torch.load(checkpoint, weights_only=True, map_location="cpu")
            held = {name.removeprefix("network."): value for name, value in content["state_dict"].items()}
        except Exception as error:
            faults.append(f"{checkpoint.name} cannot be read: {type(error).__name__}")
        else:
            faults += [f"{checkpoint.name} holds {key!r}" for key in sorted(content.keys() - CHECKPOINT_KEYS)]
            faults += _compare(checkpoint.name, held, earned, statistics)
            parameters = sum(value.numel() for name, value in held.items() if name not in statistics)
    return Finding(row["participant"], row["width"], layers, parameters, tuple(faults))


def _compare(
    file: str, held: Mapping[str, Tensor], earned: Mapping[str, Tensor], statistics: Mapping[str, tuple[int, ...]]
) -> Iterable[str]:
    """Yield every difference between what a file holds and what was earned."""
    for name in sorted((earned.keys() | statistics.keys()) - held.keys()):
        yield f"{file} lacks {name}"
    for name, value in held.items():
        if name in earned:
            expected = earned[name]
            if (value.shape, value.dtype) != (expected.shape, expected.dtype) or not torch.equal(value, expected):
                yield f"{file} holds another {name} than the width's part of the server's"
        elif tuple(value.shape) != statistics.get(name):
            yield f"{file} holds {name} of shape {tuple(value.shape)}, which is not of its width"
        if value.untyped_storage().nbytes() != value.nbytes:
            yield f"{file} holds more behind {name} than its values"


def withheld_words(plan: SlicePlan, full: Mapping[str, Tensor]) -> NDArray[np.uint64]:
    """Return the bytes of neighbouring parameters that a width does not take, eight at a time.

    A single float32 can occur in a file by chance; two neighbours together hardly can, and neither can one float64.

    Args:
        plan: What the width takes.
        full: The server's parameters, by name, in the types in which files hold them.

    Returns:
        64-bit words, (words,), each of as many neighbours as it has room for.

    Example:
        >>> plan = SlicePlan({"w": (slice(0, 2),)}, {"w": (2,)})
        >>> withheld_words(plan, {"w": torch.tensor([1.0, 2.0, 3.0, 4.0])}).view(np.float32).tolist()
        [3.0, 4.0]
    """
    outside = {name: torch.ones(full[name].shape, dtype=torch.bool) for name in plan.indices}
    plan.put(outside, {name: torch.zeros(plan.shapes[name], dtype=torch.bool) for name in outside})
    words = []
    for name, mark in outside.items():
        together = max(1, WORD // full[name].element_size())
        whole = mark.numel() // together * together
        values = full[name].detach().cpu().reshape(-1)[:whole].view(-1, together)
        outside_all = mark.reshape(-1)[:whole].view(-1, together).all(1) & (values != 0).all(1)
        words.append(np.frombuffer(_bytes(values[outside_all]), np.uint64))
    return np.concatenate(words)


def _bytes(value: Tensor) -> bytes:
    """Return the bytes of a tensor as files hold them; numpy does not know all of torch's types."""
    return value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()


def count_words(content: bytes, words: NDArray[np.uint64]) -> int:
    """Count how many of the words occur anywhere in a file's bytes, at any alignment.

    Args:
        content: The file.
        words: What to look for, (words,).

    Example:
        >>> needle = np.array([3.0, 4.0], np.float32).view(np.uint64)
        >>> count_words(b"x" + needle.tobytes(), needle), count_words(b"nothing of the kind", needle)
        (1, 0)
    """
    return int(occurring(content, words).sum())


def occurring(content: bytes, words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell which of the words occur anywhere in some bytes, at any alignment; (words,).

    Example:
        >>> words = np.array([1.0, 2.0, 3.0, 4.0], np.float32).view(np.uint64)
        >>> occurring(b"xyz" + words[1:].tobytes(), words).tolist()
        [False, True]
    """
    found = np.zeros(len(words), dtype=bool)
    for offset in range(WORD):
        count = (len(content) - offset) // WORD
        if count > 0:
            found |= np.isin(words, np.frombuffer(content, np.uint64, count, offset))
    return found


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
            for row in event["participants"]:
                widest[row["name"]] = max(widest.get(row["name"], 0.0), row["width"])
    return widest


def describe_audit(findings: Sequence[Finding], network: SlimmableModel, held: Mapping[str, float]) -> dict[str, Any]:
    """Return the content of ``audit.json``, with what participants could rebuild together.

    Sub-networks are nested, so a coalition that pools its files holds the widest of them and no more; the marks of all
    files are united and counted to show it.

    Args:
        findings: One for each participant.
        network: The shared model.
        held: Widest sub-network that each participant received in any round.
    """
    united: dict[str, Tensor] = {}
    for width in {finding.width: finding.layers or finding.width for finding in findings}.values():
        plan = network.plan(width)
        marks = {
            name: torch.zeros(parameter.shape, dtype=torch.bool) for name, parameter in network.full.named_parameters()
        }
        plan.put(marks, {name: torch.ones(plan.shapes[name], dtype=torch.bool) for name in marks})
        united = {name: mark | united[name] if name in united else mark for name, mark in marks.items()}
    return {
        "sound": not any(finding.faults for finding in findings),
        "rewards": [{**vars(finding), "held_in_rounds": held.get(finding.participant)} for finding in findings],
        "coalition": {
            "rebuilds": sum(int(mark.sum()) for mark in united.values()),
            "widest_reward": max(finding.parameters for finding in findings),
            "full": network.plan(1.0).numel(),
        },
    }


def audit_table(findings: Sequence[Finding], held: Mapping[str, float]) -> Table:
    """Return the findings as a table for the terminal.

    Args:
        findings: One for each participant.
        held: Widest sub-network that each participant received in any round.
    """
    table = Table("participant", "width", "parameters", "widest held in a round", "files")
    if any(finding.layers for finding in findings):
        table.caption = "* layers have different widths, see manifest.json"
    for finding in findings:
        table.add_row(
            finding.participant,
            f"{finding.width:g}{'*' if finding.layers else ''}",
            f"{finding.parameters:,}",
            f"{held.get(finding.participant, 0.0):g}",
            "; ".join(finding.faults) or "exactly what was earned",
        )
    return table
