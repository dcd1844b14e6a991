"""A run folder is one command's at a time: two would mix their records and write the same checkpoints."""

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
    """By whom a file is locked; by nobody where files cannot be."""

    BY_US = 1
    BY_ANOTHER = 2
    BY_NOBODY = 3


# The file stays when the run ends: removing it could take it from a command that has just locked it.
NAME = ".lock"
# Folders of a run in which large files are written aside, besides those of downloads.
FOLDERS = ("checkpoints", "rewards")


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Keep other commands out of a run folder within the block, and clear away what killed ones left half written.

    Processes that are forked in the block keep them out too, for as long as they live. Where nothing can be locked
    (Windows, a file system without locks, a folder that cannot be written) the block runs all the same.

    Args:
        run_dir: The run folder.

    Raises:
        InputError: Another command holds it, or something in it is a link.

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
            # Closed, not unlocked: a process that was forked in the block and lives on must keep the folder.
            file.close()


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Take what a file stands for within the block, if nobody else has.

    Args:
        path: A file for this purpose; it stays. Its folder is created when missing.

    Yields:
        Whether it is ours; where nothing can be locked, it always is.

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
    """Lock a file and note in it who does."""
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
