"""Making a run fail: in a forked process that has everything imported, with one fault planted in it."""

import functools
import os
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch

from aequa_lightning.__main__ import main
from aequa_lightning.data import DigitsData, Dirichlet
from aequa_lightning.engine.local.corrections import Scaffold
from aequa_lightning.engine.processes import launcher
from aequa_lightning.engine.processes.status import SIZE, ProcessStatus
from aequa_lightning.engine.server.aggregators import FedAvgM
from aequa_lightning.mechanisms import Aequa
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.trainer.trainer import CollaborativeTrainer

Action = Callable[[], object]


@dataclass(frozen=True)
class Fault:
    """What happens where.

    Attributes:
        action: Called once, in the process that gets there.
        phase: Phase of a run, as its whereabouts name it.
        rank: Which process; None: each.
        round: Of the phase; None: whichever comes first.
        served: Whether a participant must be in training there, by name in the note.
        file: Instead of a phase: name of a file that is just about to take its place.
    """

    action: Action
    phase: str = ""
    rank: int | None = 0
    round: int | None = None
    served: bool = False
    file: str = ""


def die() -> None:
    """End this process as the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def end_everything() -> None:
    """End the command and all its processes."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def tell(number: signal.Signals, *, parent: bool = False) -> Action:
    """Return the action of a scheduler that sends a signal to this process, or to the command itself."""
    return lambda: os.kill(os.getppid() if parent else os.getpid(), number)


def hang() -> None:
    """Wait for something that does not come."""
    time.sleep(600)


def throw(error: Exception) -> Action:
    """Return the action of a faulty program."""

    def action() -> None:
        raise error

    return action


def limit_files() -> None:
    """Let no file of this process grow beyond the size of a note, as a quota would."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, SIZE))


def fill(folder: Path) -> Action:
    """Return the action that fills the disk that a folder is on."""

    def action() -> None:
        with (folder / "filling").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(512))

    return action


class _Classifier(SlimmableClassifier):
    """Learns something in two rounds, at a rate and with a momentum that a resumed run must remember."""

    def configure_optimizers(self) -> object:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.5)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


def run_small(
    run_dir: Path,
    data: type[DigitsData] = DigitsData,
    *,
    devices: int = 2,
    replicas: int = 1,
    minutes: float = 1.0,
) -> None:
    """Train for two rounds and pay, in a fraction of a second; go on where the folder holds a run.

    Everything that can remember does: the server's optimizer, the participants' and their corrections.
    """
    torch.manual_seed(0)
    trainer = CollaborativeTrainer(
        accelerator="cpu",
        devices=devices,
        replicas=replicas,
        max_rounds=2,
        local_epochs=1,
        aggregator=FedAvgM(momentum=0.5),
        correction=Scaffold(),
        participant_state="keep",
        # More bootstrap_samples would take as long as all the rest.
        mechanism=Aequa(resolution=0.2, bootstrap_samples=20),
        run_dir=str(run_dir),
        report=False,
        export_programs=False,
        timeout_minutes=minutes,
    )
    trainer.configuration = "seed_everything: 0\n"
    trainer.fit(
        _Classifier(10, (1, 8, 8), backbone="mlp", widths=[1.0, 0.5]),
        data(participants=3, train_samples=120, batch_size=8, partition=Dirichlet(alpha=1.0)),
        ckpt_path="last",
    )


def run_with(fault: Fault | None, work: Callable[[], None]) -> tuple[int, str]:
    """Do some work as `aequa fit` would, in a process of its own with a fault planted in it.

    Args:
        fault: The fault; None: none.
        work: What `aequa fit` is to do.

    Returns:
        The exit status, negative for a signal, and what was written to standard error.
    """
    return run_command(fault, functools.partial(_pretend, work))


def run_command(fault: Fault | None, command: Callable[[], int]) -> tuple[int, str]:
    """Call a command, which returns its exit status, and return what :func:`run_with` does."""
    return _Forked(fault, command, {}).wait()


def run_tasks(fault: Fault | None, work: Callable[[], None]) -> list[tuple[int, str]]:
    """Do some work in two processes as `srun` starts them, and return what :func:`run_with` does of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"JOB_NAME": "aequa", "JOB_ID": "17", "NODELIST": "127.0.0.1", "NODEID": "0"}
    job |= {"NTASKS": "2", "NTASKS_PER_NODE": "2"}
    tasks = [
        _Forked(
            fault,
            functools.partial(_pretend, work),
            {f"SLURM_{key}": value for key, value in (job | {"PROCID": rank, "LOCALID": rank}).items()}
            | {"MASTER_PORT": str(port)},
        )
        for rank in ("0", "1")
    ]
    return [task.wait() for task in tasks]


def _pretend(work: Callable[[], None]) -> int:
    """Do some work in the place of `aequa fit`."""
    with patch("aequa_lightning.cli.lightning_cli.AequaCLI", side_effect=lambda words: work()):
        return main(["fit"])


class _Forked:
    """A process that believes to be the command."""

    def __init__(self, fault: Fault | None, command: Callable[[], int], environment: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed by `wait`
        launcher.end_idle_threads()  # of OpenMP, for which a forked process would wait for ever
        self._pid = os.fork()
        if self._pid == 0:
            status = 99
            try:
                os.setsid()
                os.environ |= environment
                self._redirect()
                with patch.object(launcher, "GRACE", 0.3), _planted(fault):
                    status = command()
            except SystemExit as exit_:
                status = exit_.code if isinstance(exit_.code, int) else 98
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)

    def _redirect(self) -> None:
        os.dup2(self._errors.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        # pytest has put its own in the places of these, and turns warnings into errors.
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        warnings.resetwarnings()
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.showwarning = _show

    def wait(self) -> tuple[int, str]:
        """Return the exit status and what was written to standard error, and see that nothing of it lives on."""
        _, status = os.waitpid(self._pid, 0)
        deadline = time.monotonic() + 10
        while _lives(self._pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not _lives(self._pid), "a process outlived the command"
        with self._errors as errors:
            errors.seek(0)
            return os.waitstatus_to_exitcode(status), errors.read().decode()


def _lives(group: int) -> bool:
    """Tell whether a process of a group runs; one that has ended and is not waited for does not."""
    for process in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = process.read_text().rpartition(")")[2].split()[:3]
            if its_group == str(group) and state != "Z":
                return True
    return False


def _show(message: Warning | str, category: type[Warning], *where: object) -> None:
    print(f"{category.__name__}: {message}", file=sys.stderr)


def _planted(fault: Fault | None) -> AbstractContextManager[object]:
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
    note = ProcessStatus.note

    def noted(self: ProcessStatus, **changes: object) -> bool:
        told = note(self, **changes)
        here = self.current
        is_there = here.phase == fault.phase and fault.rank in (None, here.rank) and fault.round in (None, here.round)
        if is_there and left and (here.participant is not None or not fault.served):
            left.pop()()
        return told

    return patch.object(ProcessStatus, "note", noted)
