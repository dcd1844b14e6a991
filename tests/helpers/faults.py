"""Making a run fail: `aequa` in a forked process that has everything imported, with one fault planted in it."""

import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from aequa_lightning import cli  # noqa: F401  imported before forking, so that each run does not
from aequa_lightning.__main__ import main
from aequa_lightning.collaboration import forking
from aequa_lightning.collaboration.whereabouts import Whereabouts

Action = Callable[[], None]


@dataclass(frozen=True)
class Fault:
    """What happens where.

    Attributes:
        action: Called once, in the process that gets there.
        phase: Phase of a run, as its whereabouts name it.
        rank: Which process.
        round: Of the phase; None: whichever comes first.
        participant: Whom the phase serves; None: whoever comes first, or nobody.
        file: Instead of a phase: name of a file that is just about to take its place.
    """

    action: Action
    phase: str = ""
    rank: int = 0
    round: int | None = None
    participant: str | None = None
    file: str = ""


def die() -> None:
    """End this process as the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def ask_to_stop(number: signal.Signals) -> Action:
    """Return the action of a scheduler that sends this process a signal."""
    return lambda: os.kill(os.getpid(), number)


def hang() -> None:
    """Wait for something that does not come."""
    time.sleep(600)


def throw(error: Exception) -> Action:
    """Return the action of a faulty program."""

    def action() -> None:
        raise error

    return action


def run_with(fault: Fault | None, words: list[str], *, before: Action = lambda: None) -> tuple[int, str]:
    """Run `aequa` with a fault planted, and return its exit status and what it wrote to standard error.

    Args:
        fault: The fault; None: none.
        words: Of the command line.
        before: Called in the process before it begins.
    """
    with tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            os.setsid()
            status = 99
            try:
                os.dup2(errors.fileno(), 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                # pytest has put its own in their places.
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
                # The tests turn warnings into errors; a user sees them.
                warnings.resetwarnings()
                warnings.simplefilter("ignore", DeprecationWarning)
                before()
                with patch.object(forking, "GRACE", 0.5), _planted(fault), _no_page():
                    status = main(words)
            except SystemExit as exit_:
                status = exit_.code if isinstance(exit_.code, int) else 98
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        errors.seek(0)
        return os.waitstatus_to_exitcode(status), errors.read().decode()


def _no_page() -> Any:
    # Its pictures take longer than the run.
    return patch("aequa_lightning.trainer.build_report", return_value=Path("report.html"))


def _planted(fault: Fault | None) -> Any:
    if fault is None:
        return nullcontext()
    left = [fault.action]
    if fault.file:
        replace = Path.replace

        def replaced(self: Path, target: Path) -> Path:
            if Path(target).name == fault.file and left:
                left.pop()()
            return replace(self, target)

        return patch.object(Path, "replace", replaced)
    note = Whereabouts.note

    def noted(self: Whereabouts, **changes: Any) -> None:
        note(self, **changes)
        here, wanted = self.place, fault
        if (
            (here.rank, here.phase) == (wanted.rank, wanted.phase)
            and wanted.round in (None, here.round)
            and wanted.participant in (None, here.participant)
            and left
        ):
            left.pop()()

    return patch.object(Whereabouts, "note", noted)
