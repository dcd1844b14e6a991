"""Starting a machine's processes by forking, and ending all of them when one fails."""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.accelerators import CPUAccelerator
from lightning.fabric.strategies import DDPStrategy
from lightning.fabric.strategies.launchers.launcher import _Launcher
from typing_extensions import override

from aequa_lightning.engine.processes.cluster_environment import OwnProcesses
from aequa_lightning.engine.processes.failure import diagnose, note_failure
from aequa_lightning.engine.processes.machine import bind_to_cores
from aequa_lightning.engine.processes.signals import passing_on_signals
from aequa_lightning.errors import INTERRUPTED, InputError, RunInterrupted

# Seconds that processes have to end by themselves once one of them has failed: they leave a note of what they saw.
GRACE = 3.0
PR_SET_PDEATHSIG = 1
OMP_PAUSE_HARD = 2


class ForkLauncher(_Launcher):
    """Forks one process per rank, which takes a fraction of a second, and tells what went wrong in any of them.

    Args:
        strategy: Knows how many processes there are on this machine, and how they find each other.
        run_dir: The run folder, where processes leave notes of where they stand.
    """

    def __init__(self, strategy: DDPStrategy, run_dir: Path) -> None:
        self.strategy, self.run_dir = strategy, run_dir

    @property
    @override
    def is_interactive_compatible(self) -> bool:
        return True

    @override
    def launch(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function in every process.

        Args:
            function: What rank 0 returns must be small and plain, for it travels in a pipe.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What it returned on rank 0.

        Raises:
            InputError: The function raised one, or this process has used a GPU, which forked ones then cannot.
            RunFailed: A process failed, died or hung; all have ended.
            RunInterrupted: A signal ended them while they set up.
        """
        if torch.cuda.is_initialized():
            raise InputError(
                "trainer.devices: this process has used CUDA, which processes forked from it cannot do then; leave the "
                "model on the CPU until the run starts, or start the processes with torchrun."
            )
        environment = self.strategy.cluster_environment
        assert isinstance(environment, OwnProcesses)
        # The environment chooses it once; after forking each process would choose its own.
        _ = environment.main_port
        context = multiprocessing.get_context("fork")
        results: SimpleQueue[Any] = context.SimpleQueue()
        children = [
            context.Process(
                target=self._child, args=(environment, local_rank, os.getpid(), results, function, args, kwargs)
            )
            for local_rank in range(self.strategy.num_processes)
        ]
        end_idle_threads()
        for child in children:
            child.start()
        with passing_on_signals([child.pid for child in children if child.pid is not None]) as stop:
            statuses = _join(children)
        if INTERRUPTED in statuses or (stop.received is not None and -stop.received in statuses):
            # A signal came before they listened, or after all was done.
            raise RunInterrupted
        if any(status != 0 for status in statuses):
            raise diagnose(self.run_dir, {self._rank(place): status for place, status in enumerate(statuses)})
        return results.get()

    def _child(
        self,
        environment: OwnProcesses,
        local_rank: int,
        parent: int,
        results: "SimpleQueue[Any]",
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        die_with(parent)
        # A signal that comes here is not to wake up the event loop of the process that this one was forked from.
        signal.set_wakeup_fd(-1)
        environment.place = local_rank
        if isinstance(self.strategy.accelerator, CPUAccelerator):
            # What starts threads comes after it, for they inherit it.
            bind_to_cores(local_rank, self.strategy.num_processes, threads=torch.get_num_threads())
        try:
            result = function(*args, **kwargs)
        except RunInterrupted:
            raise
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            # The parent speaks for all of them. It takes status 0 for work that is done, so `sys.exit(0)` must not end
            # a process with it.
            raise SystemExit(note_failure(error, self.run_dir, self._rank(local_rank)).status) from None
        if local_rank == 0:
            results.put(result)

    def _rank(self, local_rank: int) -> int:
        return self.strategy.node_rank * self.strategy.num_processes + local_rank


def _join(children: Sequence[ForkProcess]) -> list[int | None]:
    """Wait for all processes, or after a failure end those that do not end by themselves.

    Returns:
        Their exit statuses, negative for a signal; None for those that had to be ended.
    """
    left = list(children)
    while left and all(child.exitcode in (None, 0) for child in children):
        wait([child.sentinel for child in left])
        left = [child for child in left if child.exitcode is None]
    end = time.monotonic() + GRACE
    for child in left:
        child.join(max(0.0, end - time.monotonic()))
    statuses = [child.exitcode for child in children]
    for child in left:
        child.kill()
        child.join()
    return statuses


def end_idle_threads() -> None:
    """End the threads that OpenMP keeps for its next operation, which starts them anew when it comes.

    A process that is forked beside them believes that it has them too, and its first operation waits for them for ever.
    """
    maps = Path("/proc/self/maps")
    if maps.is_file():
        for library in {
            line.partition(" /")[2] for line in maps.read_text(errors="replace").splitlines() if "/libgomp" in line
        }:
            ctypes.CDLL(f"/{library}").omp_pause_resource_all(OMP_PAUSE_HARD)


def die_with(parent: int) -> None:
    """Let this process end when its parent does, however that ends; the run folder must not have two writers."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
