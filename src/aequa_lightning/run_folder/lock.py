"""Locks a run folder for one command: two would mix their records and write the same checkpoints."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from io import FileIO
from pathlib import Path

from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.files import refuse_links, remove_left_overs

if sys.platform != "win32":
    import fcntl


class Held(Enum):
    """By whom a file is locked; by nobody where the system has no locks."""

    BY_US = 1
    BY_ANOTHER = 2
    BY_NOBODY = 3


# The lock file stays when the run ends: another command may just have locked it.
NAME = ".lock"
# Folders of a run with temporary files, besides those of downloads.
FOLDERS = ("checkpoints", "rewards")


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Lock a run folder within the block, and remove temporary files that killed commands left.

    Processes that are forked in the block hold the lock too, as long as they live. Without locks (Windows, some file
    systems, a read-only folder) the block runs unlocked.

    Args:
        run_dir: The run folder.

    Raises:
        InputError: Another command holds the lock, or the folder contains a link.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, locked(Path(folder)):
        ...     print(*(path.name for path in Path(folder).iterdir()))
        .lock
    """
    refuse_links(run_dir)
    file = _open(run_dir / NAME)
    try:
        held = Held.BY_NOBODY if file is None else _lock(file)
        if file is not None and held is Held.BY_ANOTHER:
            file.seek(0)
            holder = file.read().decode(errors="replace") or "another process"
            raise InputError(
                f"trainer.run_dir={str(run_dir)!r} is in use by {holder}; wait for it or choose another folder."
            )
        if held is Held.BY_US:
            for folder in (run_dir, *(run_dir / name for name in FOLDERS), *(run_dir / "downloads").glob("round-*")):
                remove_left_overs(folder)
        yield
    finally:
        if file is not None:
            # Closed, not unlocked: forked processes that are still alive keep the lock.
            file.close()


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Lock a file within the block, if no other process has locked it.

    Args:
        path: The lock file, which is created with its folder and stays.

    Yields:
        Whether the lock was obtained; True where the system has no locks.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, try_lock(Path(folder) / ".cell") as first:
        ...     with try_lock(Path(folder) / ".cell") as second:
        ...         print(first, second)
        True False
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _open(path)
    try:
        yield file is None or _lock(file) is not Held.BY_ANOTHER
    finally:
        if file is not None:
            file.close()


def _open(path: Path) -> FileIO | None:
    try:
        return path.open("a+b", buffering=0)
    except OSError:
        return None


def _lock(file: FileIO) -> Held:
    """Lock a file and write the process that does into it."""
    if sys.platform == "win32":
        return Held.BY_NOBODY
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return Held.BY_ANOTHER
    except OSError:
        return Held.BY_NOBODY
    with suppress(OSError):  # a full disk: the lock holds without the note
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    return Held.BY_US
