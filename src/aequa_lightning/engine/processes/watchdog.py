"""Noticing that a process hangs where nobody waits for it in vain: it watches itself."""

import faulthandler
import os
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from aequa_lightning.engine.processes.failure import Failure, remedy
from aequa_lightning.engine.processes.status import ProcessStatus, claim_reporting
from aequa_lightning.runtime.terminal import printable

# Looks within the timeout; counted, so that a process that was halted for a while is not taken for one that hangs.
LOOKS = 10
# A process that takes less of a processor than this share of the time waits for something.
IDLE = 0.01


@contextmanager
def watching_itself(run_dir: Path, rank: int, timeout: timedelta, *, speaks: bool) -> Iterator[None]:
    """End this process with one message when it does not compute within the block for longer than the timeout.

    However long a participant trains, it computes; one that waits for a drive or a lock that never answers does not.

    Args:
        run_dir: The run folder; ``failure.log`` there tells the line that every thread hangs in.
        rank: The process's global rank.
        timeout: Longest time without computing.
        speaks: Whether the process tells the user; else it leaves a note for the one that it was forked from.
    """
    ended = threading.Event()
    pause = timeout.total_seconds() / LOOKS

    def watch() -> None:
        looks = deque([time.process_time()], maxlen=LOOKS + 1)
        while not ended.wait(pause):
            looks.append(time.process_time())
            if len(looks) > LOOKS and looks[-1] - looks[0] < IDLE * timeout.total_seconds():
                _give_up(run_dir, rank, speaks)

    watcher = threading.Thread(target=watch, name="watchdog", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _give_up(run_dir: Path, rank: int, speaks: bool) -> None:
    whereabouts = ProcessStatus(run_dir, rank)
    place = whereabouts.place
    message = (
        f"rank {rank} hangs: it has not computed for longer than trainer.timeout_minutes, in {place}. {remedy(run_dir)}"
    )
    log = run_dir / "failure.log"
    with suppress(OSError), tempfile.TemporaryFile("w+", encoding="utf-8") as aside:
        faulthandler.dump_traceback(aside)
        aside.seek(0)
        # In one piece, for other processes may hang and write too.
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.ctime()}  {message}\n{aside.read()}\n")
        message = f"{message} Traceback: {log}"
    noted = whereabouts.note(failure=asdict(Failure("fault", message, time.time())))
    if not noted or (speaks and claim_reporting(run_dir)):
        print(f"aequa: error: {printable(message)}", file=sys.stderr, flush=True)
    # The thread that hangs cannot be asked to raise anything.
    os._exit(1)
