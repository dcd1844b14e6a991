"""Starts the processes of a machine by fork, notices when one dies, and ends all of them."""

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

from aequa_lightning.engine.processes.cluster_environment import ForkEnvironment
from aequa_lightning.engine.processes.failure import diagnose, record_failure, remedy
from aequa_lightning.engine.processes.machine import bind_to_cores
from aequa_lightning.engine.processes.signals import forwarding_signals
from aequa_lightning.errors import INTERRUPTED, InputError, RunInterrupted

# Seconds that processes have to write their status and end once one of them has failed.
GRACE = 3.0
PR_SET_PDEATHSIG = 1
OMP_PAUSE_HARD = 2


class ForkLauncher(_Launcher):
    """Forks one process per rank, which takes a fraction of a second, and raises what went wrong in any of them.

    Args:
        strategy: Gives the number of processes on this machine and their rendezvous.
        run_dir: The run folder, which holds the processes' status files.
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
            function: Rank 0 returns its value through a pipe, so it must be small and picklable.
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What it returned on rank 0.

        Raises:
            InputError: The function raised one, or this process has used a GPU, which its forks then cannot use.
            RunFailed: A process failed, died or hung; all have ended.
            RunInterrupted: A signal ended the processes during set-up.
            KeyboardInterrupt: A signal came again; the processes were killed.
        """
        if torch.cuda.is_initialized():
            raise InputError(
                "trainer.devices: this process has used CUDA, which processes forked from it cannot do then; leave the "
                "model on the CPU until the run starts, or start the processes with torchrun."
            )
        environment = self.strategy.cluster_environment
        assert isinstance(environment, ForkEnvironment)
        # Chosen before forking: afterwards each process would choose a port of its own.
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
        with forwarding_signals([child.pid for child in children if child.pid is not None]) as stop:
            try:
                statuses = _join(children)
            except KeyboardInterrupt:
                _kill(children)
                raise KeyboardInterrupt(f"stopped at once. {remedy(self.run_dir)}") from None
        if INTERRUPTED in statuses or (stop.received is not None and -stop.received in statuses):
            # A signal came before the processes caught signals, or after all was done.
            raise RunInterrupted
        if any(status != 0 for status in statuses):
            raise diagnose(self.run_dir, {self._rank(place): status for place, status in enumerate(statuses)})
        return results.get()

    def _child(
        self,
        environment: ForkEnvironment,
        local_rank: int,
        parent: int,
        results: "SimpleQueue[Any]",
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        end_with_parent(parent)
        # A signal to this process must not wake the event loop of its parent.
        signal.set_wakeup_fd(-1)
        environment.place = local_rank
        if isinstance(self.strategy.accelerator, CPUAccelerator):
            # Before any thread starts, because threads inherit the binding.
            bind_to_cores(local_rank, self.strategy.num_processes, threads=torch.get_num_threads())
        try:
            result = function(*args, **kwargs)
        except RunInterrupted:
            raise
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            # The parent reports. It takes status 0 for success, so `sys.exit(0)` must not end a process with it.
            raise SystemExit(record_failure(error, self.run_dir, self._rank(local_rank)).status) from None
        if local_rank == 0:
            results.put(result)

    def _rank(self, local_rank: int) -> int:
        return self.strategy.node_rank * self.strategy.num_processes + local_rank


def _join(children: Sequence[ForkProcess]) -> list[int | None]:
    """Wait for all processes; after a failure, kill those that do not end within ``GRACE`` seconds.

    Returns:
        Their exit statuses, negative for a signal; None for those that were killed here.
    """
    left = list(children)
    while left and all(child.exitcode in (None, 0) for child in children):
        wait([child.sentinel for child in left])
        left = [child for child in left if child.exitcode is None]
    end = time.monotonic() + GRACE
    for child in left:
        child.join(max(0.0, end - time.monotonic()))
    statuses = [child.exitcode for child in children]
    _kill(left)
    return statuses


def _kill(children: Sequence[ForkProcess]) -> None:
    for child in children:
        child.kill()
    for child in children:
        child.join()


def end_idle_threads() -> None:
    """End OpenMP's idle threads; its next operation starts new ones.

    A forked process has no threads but its main one, yet inherits OpenMP's list of them: its first parallel operation
    would wait for them forever.
    """
    maps = Path("/proc/self/maps")
    if maps.is_file():
        for library in {
            line.partition(" /")[2] for line in maps.read_text(errors="replace").splitlines() if "/libgomp" in line
        }:
            ctypes.CDLL(f"/{library}").omp_pause_resource_all(OMP_PAUSE_HARD)


def end_with_parent(parent: int) -> None:
    """Have this process killed when its parent ends, so that a run folder never has two writers."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
