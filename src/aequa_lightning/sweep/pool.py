"""Processes that run cells in parallel. If one dies, its cell alone fails."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from aequa_lightning.engine.processes.cluster_environment import without_launcher_variables
from aequa_lightning.engine.processes.launcher import end_idle_threads, end_with_parent
from aequa_lightning.engine.processes.signals import (
    blocked_signals,
    forwarding_signals,
    heard_signals,
    unblock_signals,
)
from aequa_lightning.errors import INTERRUPTED, RunInterrupted
from aequa_lightning.sweep.cells import CellRunner
from aequa_lightning.sweep.matrix import Cell
from aequa_lightning.sweep.results import write_failure
from aequa_lightning.sweep.schedule import Schedule

# Environment variable: the GPUs that a process may use, by number or by UUID.
VISIBLE = "CUDA_VISIBLE_DEVICES"
# Longest time in seconds until a stop signal is acknowledged.
POLL = 0.5


def visible_devices(count: int, visible: str | None) -> list[str]:
    """Return the names of the GPUs that this process may use: a scheduler may have assigned some of a machine's.

    Args:
        count: How many there are for it.
        visible: What the environment says in ``CUDA_VISIBLE_DEVICES``; None: nothing, and all are there.

    Example:
        >>> visible_devices(2, None), visible_devices(2, "5,GPU-8932f937"), visible_devices(1, "3,-1,2")
        (['0', '1'], ['5', 'GPU-8932f937'], ['3'])
    """
    # CUDA ignores every name after one that does not exist.
    return [str(number) for number in range(count)] if visible is None else visible.split(",")[:count]


class Worker:
    """A process of the pool, and the cell that it is running.

    Args:
        runner: Runs its cells.
        number: Which worker it is.
        device: The GPU that it alone may use; None: the CPU.
    """

    def __init__(self, runner: CellRunner, number: int, device: str | None) -> None:
        self.number, self.device = number, device
        self.cell: Cell | None = None
        self._runner = runner
        self.connection, other = multiprocessing.Pipe()
        # CUDA cannot be used in forked processes. On a CPU forking saves the seconds that the imports take.
        context = multiprocessing.get_context("fork" if device is None else "spawn")
        self.process: BaseProcess = context.Process(target=_serve, args=(other, runner, os.getpid()))  # type: ignore[attr-defined]
        if device is not None:
            os.environ[VISIBLE] = device
        end_idle_threads()
        with blocked_signals():
            self.process.start()
        other.close()

    def give(self, cell: Cell) -> None:
        """Send the next cell; if the process has ended meanwhile, ``outcome`` says so."""
        self.cell = cell
        with suppress(ConnectionError):
            self.connection.send(cell)

    def outcome(self) -> tuple[bool, str | None]:
        """Wait for the cell; return whether it has ended, and why it failed if it did. The process may have died."""
        assert self.cell is not None
        try:
            return True, self.connection.recv()
        except (EOFError, ConnectionError):
            # The second one: it ended before it had read the cell.
            self.process.join()
        if self.process.exitcode == INTERRUPTED:
            return False, None
        reason = f"its process ended with status {self.process.exitcode}"
        return True, write_failure(self._runner.matrix.run_folder(self.cell), reason)

    def dismiss(self) -> None:
        """End the process; it has no cell."""
        with suppress(ConnectionError):
            self.connection.send(None)
        self.process.join()


def run_cells(
    runner: CellRunner,
    cells: Sequence[Cell],
    *,
    workers: int,
    devices: Sequence[str] = (),
    on_end: Callable[[Cell, str | None], None],
    on_stop: Callable[[], None],
) -> None:
    """Run cells in parallel.

    Args:
        runner: Runs a cell.
        cells: The cells, those of a group in order.
        workers: How many processes there are at most, without ``devices``.
        devices: GPUs, as the environment names them; with them there is one process for each.
        on_end: Called with each cell that has ended, and the reason if it failed.
        on_stop: Called soon after the first stop signal.

    Raises:
        RunInterrupted: A signal stopped the cells; those that were running can be resumed.
        KeyboardInterrupt: A signal came again; the processes were killed.
    """
    schedule = Schedule(cells)
    places: list[str | None] = list(devices) if devices else [None] * max(1, min(workers, len(cells)))
    crew = [Worker(runner, number, device) for number, device in enumerate(places)]
    pids = [worker.process.pid or 0 for worker in crew]
    with forwarding_signals(pids) as stop:
        try:
            announced = False
            while True:
                for worker in crew:
                    if worker.cell is None and stop.received is None and (cell := schedule.take(worker.number)):
                        worker.give(cell)
                busy = {worker.connection: worker for worker in crew if worker.cell is not None}
                if not busy:
                    break
                ready = wait(list(busy), timeout=POLL)
                if stop.received is not None and not announced:
                    announced = True
                    on_stop()
                for connection in ready:
                    worker = busy[connection]  # type: ignore[index]  # wait returns what it was given
                    ended, failure = worker.outcome()
                    cell, worker.cell = worker.cell, None
                    assert cell is not None
                    schedule.done(cell)
                    if ended:
                        on_end(cell, failure)
                    if worker.process.exitcode is not None and stop.received is None:
                        crew[worker.number] = Worker(runner, worker.number, worker.device)
                        pids[worker.number] = crew[worker.number].process.pid or 0
            for worker in crew:
                worker.dismiss()
        except KeyboardInterrupt:
            for worker in crew:
                worker.process.kill()
                worker.process.join()
            raise
    if stop.received is not None:
        raise RunInterrupted


def _serve(connection: Connection, runner: CellRunner, parent: int) -> None:
    """Run the cells that the pool sends, until it sends None."""
    end_with_parent(parent)
    # Inherited from the parent: a signal here must not wake its event loop.
    signal.set_wakeup_fd(-1)
    # Between cells there is nothing to save; within one the engine has its own handlers.
    for number in heard_signals():
        signal.signal(number, lambda *_: os._exit(INTERRUPTED))
    unblock_signals()
    with without_launcher_variables():
        while (cell := connection.recv()) is not None:
            connection.send(runner.run(cell))
