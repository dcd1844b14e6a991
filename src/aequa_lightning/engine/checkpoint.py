"""Checkpoints of the engine: atomic writes, verification by SHA-256, and search for the newest intact one."""

import io
import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.archive import load_archive
from aequa_lightning.run_folder.files import sha256, write_atomically

NAME = re.compile(r"round-[0-9]{4,18}\.ckpt")
FORMAT = 10


def save_checkpoint(folder: Path, state: dict[str, Any], *, keep: int = 2) -> Path:
    """Write ``round-NNNN.ckpt`` and its SHA-256 file, make ``last.ckpt`` a link to it, and delete older checkpoints.

    Args:
        folder: The run's ``checkpoints`` folder.
        state: Plain values and tensors; ``state["round"]`` names the file.
        keep: Number of checkpoints to keep, >= 1; with two, one is left if the other is damaged.

    Returns:
        The new file.

    Raises:
        OSError: The disk is full; older checkpoints are untouched.
    """
    content = io.BytesIO()
    torch.save({"format": FORMAT, **state}, content)
    path = _path(folder, state["round"])
    _hash_file(path).unlink(missing_ok=True)
    write_atomically(path, content.getvalue())
    _point_last_at(folder, state["round"])
    for other in _rounds(folder)[:-keep]:
        _remove(other)
    return path


def discard_later_rounds(folder: Path, number: int) -> None:
    """Delete checkpoints of later rounds, and make ``last.ckpt`` the checkpoint of a round.

    The resumed run repeats those rounds and overwrites the participants' states, which later checkpoints refer to. If
    the run was killed before the SHA-256 file of this checkpoint was written, the file is added.

    Args:
        folder: The run's ``checkpoints`` folder.
        number: The last round of the resumed run that is done.
    """
    for path in reversed(_rounds(folder)):
        if _number(path) > number:
            _remove(path)
    _point_last_at(folder, number)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read and verify one checkpoint of the engine.

    A file with a SHA-256 file is verified by it. A file without one, such as ``last.ckpt``, is verified by the CRC
    sums of its zip archive, which torch itself ignores.

    Args:
        path: The file.

    Returns:
        The saved state, tensors on the CPU.

    Raises:
        InputError: The file is missing, damaged or no checkpoint.
    """
    if not path.is_file():
        raise InputError(f"ckpt_path={str(path)!r} is no file; give a checkpoint, or 'last' for the newest of the run.")
    expected = _hash_file(path)
    if expected.is_file() and expected.read_bytes().split()[:1] != [sha256(path).encode()]:
        raise InputError(f"ckpt_path={str(path)!r} is damaged: its SHA-256 is not the one beside it. Use an older one.")
    try:
        state = load_archive(path, sums=not expected.is_file())
    except Exception as error:
        raise InputError(
            f"ckpt_path={str(path)!r} cannot be read as a checkpoint ({type(error).__name__}); it is truncated or "
            "something else. Use an older one, or 'last' for the newest sound one."
        ) from error
    if not isinstance(state, dict):
        raise InputError(f"ckpt_path={str(path)!r} holds a {type(state).__name__}, not a checkpoint.")
    return state


def load_last(folder: Path) -> dict[str, Any] | None:
    """Read the newest intact checkpoint of a run.

    Args:
        folder: The run's ``checkpoints`` folder; it may be missing.

    Returns:
        Its state; None: the run has no checkpoint yet.

    Raises:
        InputError: There are checkpoints, but every one is damaged.
    """
    rounds = _rounds(folder)
    for path in reversed(rounds):
        try:
            return load_checkpoint(path)
        except InputError as error:
            warnings.warn(f"{error} Going on from the one before.", stacklevel=2)
    if rounds:
        raise InputError(f"Every checkpoint in {folder} is damaged; start again in another trainer.run_dir.")
    return None


def oldest_round(folder: Path) -> int:
    """Return the round of the oldest checkpoint in a folder with at least one."""
    return _number(_rounds(folder)[0])


def newest_round(folder: Path) -> int | None:
    """Return the round of the newest checkpoint in a folder; None if there is none."""
    rounds = _rounds(folder)
    return _number(rounds[-1]) if rounds else None


def load_round(folder: Path, number: int) -> dict[str, Any] | None:
    """Read the checkpoint of a round; None if it has been deleted or is damaged.

    Args:
        folder: The run's ``checkpoints`` folder.
        number: The round.
    """
    try:
        return load_checkpoint(_path(folder, number))
    except InputError:
        return None


def _path(folder: Path, number: int) -> Path:
    return folder / f"round-{number:04d}.ckpt"


def _rounds(folder: Path) -> list[Path]:
    """Return the checkpoints of rounds, the oldest first; files with other names are ignored."""
    return sorted(filter(lambda path: NAME.fullmatch(path.name), folder.glob("round-*.ckpt")), key=_number)


def _remove(path: Path) -> None:
    path.unlink()
    _hash_file(path).unlink(missing_ok=True)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))


def _hash_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _point_last_at(folder: Path, number: int) -> None:
    """Make ``last.ckpt`` the checkpoint of a round, if it exists, and write its SHA-256 file if that is missing."""
    path = _path(folder, number)
    if path.is_file():
        if not _hash_file(path).is_file():
            write_atomically(_hash_file(path), f"{sha256(path)}  {path.name}\n".encode())
        _link_last(path)


def _link_last(path: Path) -> None:
    """Make ``last.ckpt`` a hard link to ``path``, which takes no space and is created atomically; else a copy."""
    last, aside = path.with_name("last.ckpt"), path.with_name(".last.ckpt.tmp")
    aside.unlink(missing_ok=True)
    try:
        os.link(path, aside)
    except OSError:  # a file system without hard links
        write_atomically(last, path.read_bytes())
    else:
        aside.replace(last)
