"""Atomic writes: a file is written beside its destination, synced, then renamed."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeGuard
from uuid import uuid4

from aequa_lightning.errors import InputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a crash at any moment leaves the old file or the new one.

    Args:
        path: Destination; its folder is created when missing.
        content: The whole new content.

    Raises:
        OSError: The disk is full or the folder is not writable; it names the file, and the old one is untouched.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder) / "a" / "note.txt", b"kept")
        ...     (Path(folder) / "a" / "note.txt").read_bytes()
        b'kept'
    """
    # A unique name keeps concurrent writers apart, also on different machines.
    aside = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        sync(path.parent)


def remove_left_overs(folder: Path) -> None:
    """Remove temporary files that killed writers left in a folder (not below it); nothing else may be writing there.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     for name in ("note.txt", ".note.txt.5eed.tmp"):
        ...         (Path(folder) / name).touch()
        ...     remove_left_overs(Path(folder))
        ...     print(*(path.name for path in Path(folder).iterdir()))
        note.txt
    """
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):  # leftovers do no harm
            path.unlink()


# Folders that a run writes to; others, such as a logger's, are not checked.
OWN_FOLDERS = (
    "checkpoints",
    "downloads",
    "figures",
    "participants",
    "predictions",
    "processes",
    "rewards",
    "standalone",
)


def refuse_links(folder: Path) -> None:
    """Check for links in a run folder, through which a run would write elsewhere; the folder itself may be a link.

    Args:
        folder: The run folder; it may be missing.

    Raises:
        InputError: A file or folder in it is a link.

    Example:
        >>> refuse_links(Path("no-such-folder"))
    """
    paths = [*folder.glob("*"), *(path for name in OWN_FOLDERS for path in folder.glob(f"{name}/**/*"))]
    link = next((path for path in sorted(paths) if path.is_symlink()), None)
    if link is not None:
        raise InputError(f"{link} is a link, and a run writes only what is in its own folder; remove the link.")


def check_writable(folder: Path, key: str = "trainer.run_dir") -> None:
    """Create a folder, and check that files in it can be written and read.

    Args:
        folder: The folder.
        key: Its key in the configuration.

    Raises:
        InputError: They cannot, or the folder holds links.
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


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add a file's name to system errors within the block; those of a full disk have none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def is_full_disk(error: BaseException) -> TypeGuard[OSError]:
    """Return whether an error means that the disk is full.

    Example:
        >>> is_full_disk(OSError(errno.ENOSPC, "No space left on device")), is_full_disk(OSError("other"))
        (True, False)
    """
    return isinstance(error, OSError) and error.errno in NO_ROOM


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically; NaN and infinity, which JSON lacks, raise a ValueError."""
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Sync a file, or a folder's entries, to disk; a rename is durable only after the latter."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
