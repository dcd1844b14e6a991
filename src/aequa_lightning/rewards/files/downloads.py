"""Files of what participants received in the rounds, and proof that each holds exactly its width."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from aequa_lightning.rewards.files.held import widths_received
from aequa_lightning.run_folder.files import sha256, write_atomically
from aequa_lightning.slimmable import SlicePlan, SlimmableModel

FOLDER = "downloads"


@dataclass(frozen=True)
class DownloadFindings:
    """What the audit of all downloads found.

    Attributes:
        files: Number of downloads according to the record.
        compared: How many of them were compared with the parameters of which they must be a part.
        faults: What is wrong, in words.
    """

    files: int
    compared: int
    faults: tuple[str, ...]

    def summary(self) -> str:
        """Return what was proved, in words."""
        return f"{self.files} downloads of the rounds hold exactly their width; {self.compared} compared in value"


def file_of(number: int, participant: str) -> str:
    """Return the name of a download below the folder of all.

    Example:
        >>> file_of(3, "a")
        'round-0003/a.safetensors'
    """
    return f"round-{number:04d}/{participant}.safetensors"


def save_download(run_dir: Path, number: int, participant: str, slices: Mapping[str, Tensor]) -> None:
    """Write what a participant received in a round.

    Args:
        run_dir: The run folder.
        number: The round, from 1.
        participant: Name.
        slices: The parameters of its width, by name.
    """
    content = save({name: part.cpu() for name, part in slices.items()})
    write_atomically(run_dir / FOLDER / file_of(number, participant), content)


def digests(run_dir: Path, *, rounds: int) -> dict[str, str]:
    """Return the SHA-256 of every download by its file; empty where none were recorded.

    Args:
        run_dir: The run folder.
        rounds: Later ones are left out: they belong to a course that was left by going on from an earlier checkpoint.
    """
    folder = run_dir / FOLDER
    paths = [
        path
        for path in sorted(folder.glob("round-*/*.safetensors"))
        if re.fullmatch("round-[0-9]{4,18}", path.parent.name) and int(path.parent.name[6:]) <= rounds
    ]
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths}


def audit_downloads(
    run_dir: Path,
    events: Sequence[Mapping[str, Any]],
    manifest: Mapping[str, str],
    *,
    network: SlimmableModel,
    server: Callable[[int, str], Mapping[str, Tensor] | None],
) -> DownloadFindings:
    """Compare every download with the width that the record says its participant held in the round.

    Args:
        run_dir: The run folder.
        events: The events of the rounds, in their order.
        manifest: SHA-256 of every download, by file.
        network: The shared model; its parameters are not read.
        server: (round, participant) -> the full parameters of which the download must be a part, by name, or None
            where they are not known any more.
    """
    faults, compared, expected = [], 0, set()
    types = {name: parameter.dtype for name, parameter in network.full.named_parameters()}
    present = digests(run_dir, rounds=events[-1]["round"])
    for event in events:
        completed = {row["name"] for row in event["participants"]}
        for name, width in widths_received(event).items():
            file = file_of(event["round"], name)
            if file not in present:
                # Whoever dropped out may have gone before anything was sent.
                faults += [f"{file} is missing"] * (name in completed)
                expected |= {file} if name in completed else set()
                continue
            expected.add(file)
            if present[file] != manifest.get(file):
                faults.append(f"{file} is not the file of the manifest (SHA-256)")
            full = server(event["round"], name)
            compared += full is not None
            content = (run_dir / FOLDER / file).read_bytes()
            faults += [f"{file} {fault}" for fault in compare_download(content, network.plan(width), full, types=types)]
    faults += [f"{file} belongs to no round of the record" for file in sorted(present.keys() - expected)]
    return DownloadFindings(len(expected), compared, tuple(faults))


def compare_download(
    content: bytes, plan: SlicePlan, full: Mapping[str, Tensor] | None, *, types: Mapping[str, torch.dtype]
) -> Iterator[str]:
    """Yield every difference between a download and what a width takes.

    Args:
        content: The file.
        plan: What the width takes.
        full: The full parameters of which it must be a part, by name; None: names and shapes are compared alone.
        types: The parameters' types, by name.

    Example:
        >>> plan, full = SlicePlan({"w": (slice(0, 2),)}, {"w": (2,)}), {"w": torch.tensor([1.0, 2.0, 3.0])}
        >>> types = {"w": torch.float32}
        >>> list(compare_download(save(plan.extract(full)), plan, full, types=types))
        []
        >>> list(compare_download(save(full), plan, None, types=types))
        ['holds w of shape (3,), which is not of its width']
    """
    try:
        held = load(content)
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
        yield f"cannot be read ({error})"
        return
    # Names, shapes and values, written again, are the whole file: there is no room for anything else.
    if save(held) != content:
        yield "holds more than its tensors"
    yield from (f"lacks {name}" for name in sorted(plan.shapes.keys() - held.keys()))
    earned = {} if full is None else plan.extract(full)
    for name, value in held.items():
        if plan.shapes.get(name) != tuple(value.shape):
            yield f"holds {name} of shape {tuple(value.shape)}, which is not of its width"
        elif value.dtype != types[name]:
            yield f"holds {name} in {value.dtype}, not {types[name]}"
        elif full is not None and not torch.equal(value, earned[name].cpu()):
            yield f"holds another {name} than the width's part of the server's"
