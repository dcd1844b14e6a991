"""One message for the user when a run fails: rank, phase, cause and remedy, whichever process failed."""

import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import Signals

import torch
import torch.distributed as dist

from aequa_lightning.engine.processes.signals import ignore_stop_signals
from aequa_lightning.engine.processes.status import ProcessStatus, Status, claim_reporting, read_statuses
from aequa_lightning.errors import InputError, RunFailed, RunInterrupted
from aequa_lightning.run_folder.files import is_full_disk
from aequa_lightning.runtime.terminal import printable

RESUME = "What was saved is sound: go on with --ckpt_path last."
RESTART = "No round was saved: begin again with --ckpt_path last."
# Seconds that a process that lost contact waits, so that the process that failed can report first.
REPORT_DELAY = 1.0
# Likely senders of a signal.
SIGNAL_CAUSES = {
    "SIGKILL": "a machine that is out of memory does that",
    "SIGABRT": "NCCL does that to a process that has waited for another one longer than trainer.timeout_minutes",
}
# Characters of an error's own message: a status file is small.
MAX_MESSAGE_LENGTH = 500


@dataclass(frozen=True)
class Failure:
    """Why a process ended.

    Attributes:
        kind: ``input``: bad input; ``contact``: another process is gone or hangs; ``interrupt``: a second Ctrl-C;
            ``fault``: anything else.
        message: For the user.
        time: In seconds since the epoch.
    """

    kind: str
    message: str
    time: float

    @property
    def status(self) -> int:
        """Exit status of a process that ends for this reason."""
        return {"input": 2, "interrupt": 130}.get(self.kind, 1)


def remedy(run_dir: Path) -> str:
    """Return the sentence that says how to continue a failed run."""
    return RESUME if any((run_dir / "checkpoints").glob("round-*.ckpt")) else RESTART


def record_failure(error: BaseException, run_dir: Path, rank: int) -> Failure:
    """Write why a process ends to its status file, and the traceback to ``failure.log``.

    Args:
        error: What was raised.
        run_dir: The run folder.
        rank: The process's global rank.

    Returns:
        The reason.
    """
    status = ProcessStatus(run_dir, rank)
    failure = describe(error, status.current, remedy(run_dir))
    # A full disk has no room for a traceback, and the message names the file.
    if failure.kind == "fault" and not is_full_disk(error):
        log, text = run_dir / "failure.log", "".join(traceback.format_exception(error))
        try:
            with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{time.ctime(failure.time)}  {failure.message}\n{text}\n")
            failure = Failure(failure.kind, f"{failure.message} Traceback: {log}", failure.time)
        except OSError:
            print(printable(text), file=sys.stderr)
    if not status.note(failure=asdict(failure)):
        print(f"aequa: error: {printable(failure.message)}", file=sys.stderr)
    return failure


@contextmanager
def report_once(run_dir: Path, rank: int, *, several: bool) -> Iterator[None]:
    """Report the failure of processes that torchrun or srun has started once, not once per process.

    Args:
        run_dir: The run folder.
        rank: The process's global rank.
        several: Whether there are other processes.

    Raises:
        InputError: The block raised one, and this process reports it.
        RunFailed: The block failed, and this process reports it.
        SystemExit: Another process has reported the failure.
    """
    try:
        yield
    except RunInterrupted:
        raise
    except (Exception, SystemExit) as error:
        if several:
            # torchrun and SLURM end all processes once one has ended, even before the failure is reported. (A single
            # process may be a notebook, which keeps its handlers.)
            ignore_stop_signals()
        failure = record_failure(error, run_dir, rank)
        if failure.kind == "contact":
            # Let the process that failed report first.
            time.sleep(REPORT_DELAY)
        if not claim_reporting(run_dir):
            raise SystemExit(failure.status) from None
        if failure.kind == "input":
            raise
        raise (diagnose(run_dir, {}) if failure.kind == "contact" else RunFailed(failure.message)) from error


def describe(error: BaseException, place: Status, advice: str) -> Failure:
    """Return an error as a failure with a message for the user.

    Args:
        error: What was raised.
        place: Status of the process at that time.
        advice: The remedy; see :func:`remedy`.

    Example:
        >>> describe(ValueError("no"), Status(1, "training", round=2, participant="hospital"), RESUME).message
        'rank 1, round 2, training of hospital: ValueError: no. What was saved is sound: go on with --ckpt_path last.'
    """
    where, kind = f"rank {place.rank}, {place}", "fault"
    if isinstance(error, InputError):
        kind, message = "input", str(error)
    elif isinstance(error, KeyboardInterrupt):
        kind, message = "interrupt", f"{where}: interrupted. {advice}"
    elif is_lost_contact(error):
        kind, message = "contact", _first_line(error)
    elif _is_out_of_memory(error):
        batch = "" if place.batch_size is None else f" with data.batch_size={place.batch_size}"
        message = (
            f"{where}: out of memory{batch} ({_first_line(error)}). Lower data.batch_size, let processes share a "
            f"participant with trainer.replicas, or start fewer of them on a machine. {advice}"
        )
    elif is_full_disk(error):
        message = f"{where}: {error.filename} cannot be written: {error.strerror}. Make room. {advice}"
    else:
        message = f"{where}: {type(error).__name__}: {_first_line(error)}. {advice}"
    return Failure(kind, message, time.time())


def diagnose(run_dir: Path, statuses: Mapping[int, int | None]) -> BaseException:
    """Return the error that ended a run, from the status files and exit statuses of its processes.

    Args:
        run_dir: The run folder.
        statuses: Exit status by rank where it is known; negative: the signal that killed the process; None: it was
            ended by its parent.

    Returns:
        The error to raise.
    """
    places = read_statuses(run_dir)
    failures = {rank: Failure(**place.failure) for rank, place in places.items() if place.failure is not None}
    for rank, status in statuses.items():
        if status and (status < 0 or rank not in failures):
            return RunFailed(f"rank {rank} {_ended(status)} in {places.get(rank, Status(rank))}. {remedy(run_dir)}")
    if not failures:
        return RunFailed(f"The reason was not noted. {remedy(run_dir)}")
    first = min(failures.values(), key=lambda failure: (failure.kind == "contact", failure.time))
    if first.kind == "input":
        return InputError(first.message)
    if first.kind == "interrupt":
        return KeyboardInterrupt(first.message)
    if first.kind == "contact":
        (waiting,) = (rank for rank, failure in failures.items() if failure is first)
        lost = _lost(first, places[waiting], [p for r, p in places.items() if r not in failures])
        return RunFailed(f"{lost}. {remedy(run_dir)}")
    return RunFailed(first.message)


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    name = Signals(-status).name
    hint = SIGNAL_CAUSES.get(name)
    return f"was killed by {name}{f' ({hint})' if hint else ''}"


def _lost(failure: Failure, waiting: Status, others: list[Status]) -> str:
    """Return which processes another one has waited for: those whose phase or round differs from its own."""
    elsewhere = [p for p in others if (p.phase, p.round) != (waiting.phase, waiting.round)] or others
    whom = ", ".join(f"rank {place.rank}" for place in elsewhere) or "another process"
    last = "; ".join(f"rank {p.rank} was last seen in {p}, {time.time() - p.since:.0f} s ago" for p in elsewhere)
    if "timed out" in failure.message.lower():
        what = f"waited for {whom} longer than trainer.timeout_minutes, in {waiting}"
    else:
        what = f"lost contact with {whom} in {waiting}"
    return f"rank {waiting.rank} {what}{f' ({last})' if last else ''}"


def is_lost_contact(error: BaseException) -> bool:
    """Return whether an error means that another process is gone or hangs."""
    # gloo raises RuntimeErrors, which are known by the source file that they name.
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


def _is_out_of_memory(error: BaseException) -> bool:
    # The CPU allocator raises RuntimeErrors.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")[:MAX_MESSAGE_LENGTH]
