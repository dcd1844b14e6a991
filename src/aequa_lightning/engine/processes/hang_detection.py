"""Ends a process that has been idle for longer than the timeout."""

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

# Checks within one timeout. They are counted, so that a process that was suspended is not taken for one that hangs.
CHECKS = 10
# A process whose share of processor time is below this is idle.
IDLE = 0.01


@contextmanager
def detecting_hangs(run_dir: Path, rank: int, timeout: timedelta, *, reports: bool) -> Iterator[None]:
    """End this process with one message when it is idle within the block for longer than the timeout.

    Training takes processor time however long it lasts; waiting for a drive or a lock that never answers does not.

    Args:
        run_dir: The run folder; the stack of every thread is written to its ``failure.log``.
        rank: The process's global rank.
        timeout: Longest time without computation.
        reports: Whether the process reports to the user; else it writes its status for its parent process.
    """
    ended = threading.Event()
    pause = timeout.total_seconds() / CHECKS

    def watch() -> None:
        checks = deque([time.process_time()], maxlen=CHECKS + 1)
        while not ended.wait(pause):
            checks.append(time.process_time())
            if len(checks) > CHECKS and checks[-1] - checks[0] < IDLE * timeout.total_seconds():
                _end_process(run_dir, rank, reports)

    watcher = threading.Thread(target=watch, name="hang detection", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _end_process(run_dir: Path, rank: int, reports: bool) -> None:
    status = ProcessStatus(run_dir, rank)
    idle = f"it has not computed for longer than trainer.timeout_minutes, in {status.current}"
    message = f"rank {rank} hangs: {idle}. {remedy(run_dir)}"
    log = run_dir / "failure.log"
    with suppress(OSError), tempfile.TemporaryFile("w+", encoding="utf-8") as aside:
        faulthandler.dump_traceback(aside)
        aside.seek(0)
        # In one write, because other processes may write at the same time.
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.ctime()}  {message}\n{aside.read()}\n")
        message = f"{message} Traceback: {log}"
    noted = status.note(failure=asdict(Failure("fault", message, time.time())))
    if not noted or (reports and claim_reporting(run_dir)):
        print(f"aequa: error: {printable(message)}", file=sys.stderr, flush=True)
    # The main thread hangs, so it cannot raise an error.
    os._exit(1)
