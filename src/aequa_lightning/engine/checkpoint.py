"""The engine's checkpoints: written atomically, verified by hash, the newest sound one found again."""

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
FORMAT = 9


def save_checkpoint(folder: Path, state: dict[str, Any], *, keep: int = 2) -> Path:
    """Write ``round-NNNN.ckpt`` with its hash beside it, point ``last.ckpt`` at it, and prune others.

    Args:
        folder: The run's ``checkpoints`` folder.
        state: Plain values and tensors; ``state["round"]`` names the file.
        keep: How many rounds' checkpoints stay, >= 1; two, so that a damaged one leaves another.

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


def resume_from(folder: Path, number: int) -> None:
    """Let the checkpoint of a round be the last one.

    Those of later rounds go: they belong to a course that is left, and what participants keep of it will be
    overwritten. The run may also have been killed between this checkpoint and its hash.

    Args:
        folder: The run's ``checkpoints`` folder.
        number: The round that the run stands after.
    """
    for path in reversed(_rounds(folder)):
        if _number(path) > number:
            _remove(path)
    _point_last_at(folder, number)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read and verify one checkpoint of the engine.

    The hash beside it tells whether it is sound. One without, such as ``last.ckpt``, which is another name of the
    newest, has the check sums of the archive that it is; torch itself does not look at them.

    Args:
        path: The file.

    Returns:
        The saved state, tensors on the CPU.

    Raises:
        InputError: The file is missing, damaged or something else.
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
    """Read the newest sound checkpoint of a run.

    Args:
        folder: The run's ``checkpoints`` folder; it may be missing.

    Returns:
        Its state, or None when the run has no checkpoint yet.

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
    """Return the round of the oldest checkpoint of a folder that has some."""
    return _number(_rounds(folder)[0])


def load_round(folder: Path, number: int) -> dict[str, Any] | None:
    """Read the checkpoint of a round; None when it was pruned or is damaged.

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
    """Return the checkpoints of rounds, the oldest first; copies under other names are left alone."""
    return sorted(filter(lambda path: NAME.fullmatch(path.name), folder.glob("round-*.ckpt")), key=_number)


def _remove(path: Path) -> None:
    path.unlink()
    _hash_file(path).unlink(missing_ok=True)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))


def _hash_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _point_last_at(folder: Path, number: int) -> None:
    """Let ``last.ckpt`` be the checkpoint of a round, if there is one, and have its hash beside it."""
    path = _path(folder, number)
    if path.is_file():
        if not _hash_file(path).is_file():
            write_atomically(_hash_file(path), f"{sha256(path)}  {path.name}\n".encode())
        _link_last(path)


def _link_last(path: Path) -> None:
    """Let ``last.ckpt`` be the same file as ``path``: a hard link takes no room and cannot be half written."""
    last, aside = path.with_name("last.ckpt"), path.with_name(".last.ckpt.tmp")
    aside.unlink(missing_ok=True)
    try:
        os.link(path, aside)
    except OSError:  # a file system without hard links
        write_atomically(last, path.read_bytes())
    else:
        aside.replace(last)
