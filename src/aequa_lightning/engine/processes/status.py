"""The status of each process, in a small file that the others read when it dies or hangs."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import finalize

# Bytes of a status file. It has its full size from the start, so that a later write needs no room on a full disk.
SIZE = 2048


@dataclass(frozen=True)
class Status:
    """What a process is doing.

    Attributes:
        rank: Its global rank.
        phase: Such as ``training``.
        round: Number of the round, from 1; None outside of rounds.
        participant: Name of the participant whose work is being done; None: none.
        batch_size: Samples of a batch, in phases whose memory depends on it.
        since: When the phase began, in seconds since the epoch.
        failure: The error that ended the process, as :mod:`~aequa_lightning.engine.processes.failure` describes it.
    """

    rank: int
    phase: str = "set-up"
    round: int | None = None
    participant: str | None = None
    batch_size: int | None = None
    since: float = 0.0
    failure: dict[str, Any] | None = None

    def __str__(self) -> str:
        """Return the status in words.

        Example:
            >>> str(Status(1, "training", round=2, participant="hospital"))
            'round 2, training of hospital'
        """
        words = self.phase if self.participant is None else f"{self.phase} of {self.participant}"
        return words if self.round is None else f"round {self.round}, {words}"


class ProcessStatus:
    """Writes this process's status to a file of its own, so that it can be read after the process was killed.

    Args:
        run_dir: The run folder; it holds the status files of all processes.
        rank: Global rank of this process. Continues from this rank's previous status.
    """

    def __init__(self, run_dir: Path, rank: int) -> None:
        self.current = read_statuses(run_dir).get(rank, Status(rank))
        self._file: int | None = None
        self._length = 0
        # A run goes on where its status cannot be written.
        with suppress(OSError):
            _folder(run_dir).mkdir(parents=True, exist_ok=True)
            # Kept open, because each close on a network drive waits for the server.
            self._file = os.open(_folder(run_dir) / f"rank-{rank}.json", os.O_WRONLY | os.O_CREAT)
            self._length = os.fstat(self._file).st_size
            finalize(self, os.close, self._file)
        self.note()

    def note(self, **changes: Any) -> bool:
        """Change and write the status.

        Args:
            **changes: Attributes of :class:`Status`; the others stay.

        Returns:
            Whether it could be written.
        """
        self.current = replace(self.current, **{"since": time.time(), **changes})
        content = json.dumps(vars(self.current), ensure_ascii=False).encode(errors="backslashreplace").ljust(SIZE)
        with suppress(OSError):
            if self._file is None or os.pwrite(self._file, content, 0) != len(content):
                return False
            if len(content) < self._length:
                os.ftruncate(self._file, len(content))
            self._length = len(content)
            return True
        return False

    @contextmanager
    def at(self, phase: str, **changes: Any) -> Iterator[None]:
        """Set the phase within the block. After an error the status stays, because it says where the error happened.

        Args:
            phase: What the block does.
            **changes: Other attributes of :class:`Status`.
        """
        before = self.current
        self.note(phase=phase, **changes)
        yield
        self.note(**{**vars(before), "since": time.time()})


def read_statuses(run_dir: Path) -> dict[int, Status]:
    """Return the last status of every process of a run, by rank; processes without a status file are left out."""
    statuses = {}
    for path in _folder(run_dir).glob("rank-*.json"):
        # The process may be writing the file at this moment.
        with suppress(OSError, ValueError, TypeError):
            status = Status(**json.loads(path.read_bytes()))
            statuses[status.rank] = status
    return statuses


def claim_reporting(run_dir: Path) -> bool:
    """Return whether this process is the first to ask, and so the one that reports the failure to the user."""
    try:
        (_folder(run_dir) / "reported").touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # a full disk: two reports are better than none
        return True
    return True


def remove_statuses(run_dir: Path) -> None:
    """Delete the status files of all processes."""
    shutil.rmtree(_folder(run_dir), ignore_errors=True)


def _folder(run_dir: Path) -> Path:
    return run_dir / "processes"
