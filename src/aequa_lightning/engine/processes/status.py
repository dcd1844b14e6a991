"""Where each process of a run stands, noted where the others can read it when it dies or hangs."""

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

# Bytes of a note; it has its full size from the beginning, so that later ones need no room on a disk that is full.
SIZE = 2048


@dataclass(frozen=True)
class Status:
    """What a process is doing.

    Attributes:
        rank: Its global rank.
        phase: Such as ``training``.
        round: Number of the round, from 1; None outside of rounds.
        participant: Name of the participant that is being served; None: nobody in particular.
        batch_size: Samples of a batch, where batches are what takes memory.
        since: When it came here, in seconds since the epoch.
        failure: What ended it here, as :mod:`~aequa_lightning.engine.processes.failure` describes it.
    """

    rank: int
    phase: str = "set-up"
    round: int | None = None
    participant: str | None = None
    batch_size: int | None = None
    since: float = 0.0
    failure: dict[str, Any] | None = None

    def __str__(self) -> str:
        """Return the place in words.

        Example:
            >>> str(Status(1, "training", round=2, participant="hospital"))
            'round 2, training of hospital'
        """
        words = self.phase if self.participant is None else f"{self.phase} of {self.participant}"
        return words if self.round is None else f"round {self.round}, {words}"


class ProcessStatus:
    """Notes where this process stands, in a small file of its own.

    A process that is killed or hangs tells nobody what it was doing; its last note does.

    Args:
        run_dir: The run folder; the notes of all processes lie together in it.
        rank: Global rank of this process. What it has noted before is gone on from.
    """

    def __init__(self, run_dir: Path, rank: int) -> None:
        self.place = read_statuses(run_dir).get(rank, Status(rank))
        self._file: int | None = None
        self._length = 0
        # Where notes cannot be written, the work goes on without them.
        with suppress(OSError):
            _folder(run_dir).mkdir(parents=True, exist_ok=True)
            # Kept open: on a network drive every closing would wait for the server.
            self._file = os.open(_folder(run_dir) / f"rank-{rank}.json", os.O_WRONLY | os.O_CREAT)
            self._length = os.fstat(self._file).st_size
            finalize(self, os.close, self._file)
        self.note()

    def note(self, **changes: Any) -> bool:
        """Change the place.

        Args:
            **changes: Attributes of :class:`Status`; the others stay.

        Returns:
            Whether others can read it.
        """
        self.place = replace(self.place, **{"since": time.time(), **changes})
        content = json.dumps(vars(self.place), ensure_ascii=False).encode(errors="backslashreplace").ljust(SIZE)
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
        """Be at a place within the block. After an error the note stays as it is: it tells where that happened.

        Args:
            phase: What is done in the block.
            **changes: Other attributes of :class:`Status`.
        """
        before = self.place
        self.note(phase=phase, **changes)
        yield
        self.note(**{**vars(before), "since": time.time()})


def read_statuses(run_dir: Path) -> dict[int, Status]:
    """Read the last note of every process of a run, by rank; who has left none is not among them."""
    places = {}
    for path in _folder(run_dir).glob("rank-*.json"):
        # A process may be writing just now.
        with suppress(OSError, ValueError, TypeError):
            place = Status(**json.loads(path.read_bytes()))
            places[place.rank] = place
    return places


def claim_reporting(run_dir: Path) -> bool:
    """Tell whether this process is the first one to ask, and may speak for all of a run that failed."""
    try:
        (_folder(run_dir) / "spoken").touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # a full disk: better twice than not at all
        return True
    return True


def forget_places(run_dir: Path) -> None:
    """Delete the notes of all processes."""
    shutil.rmtree(_folder(run_dir), ignore_errors=True)


def _folder(run_dir: Path) -> Path:
    return run_dir / "processes"
