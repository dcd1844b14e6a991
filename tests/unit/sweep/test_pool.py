"""A signal may reach a process of the pool at any moment; each is made to happen here at one point."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest import mock

import pytest

from aequa_lightning.errors import RunInterrupted
from aequa_lightning.sweep import pool
from aequa_lightning.sweep.cells import CellRunner
from aequa_lightning.sweep.matrix import Cell
from aequa_lightning.sweep.pool import Worker, run_cells

CELL = Cell("digits", "even", "-", "aequa", 0)
STOPPED = (False, None)


class Runner:
    """Finishes every cell at once."""

    def run(self, cell: Cell) -> None:
        return None


def worker() -> Worker:
    return Worker(cast(CellRunner, Runner()), 0, None)


def send(one: Worker, number: signal.Signals) -> None:
    assert one.process.pid is not None
    os.kill(one.process.pid, number)


def test_a_signal_before_the_process_listens_waits_until_it_does() -> None:
    def first_thing(parent: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with mock.patch.object(pool, "end_with_parent", first_thing):
        one = worker()
    one.give(CELL)
    assert one.outcome() == STOPPED
    one.dismiss()


def test_a_signal_between_handing_over_a_cell_and_its_being_read() -> None:
    one = worker()
    one.give(CELL)
    assert one.outcome() == (True, None)
    send(one, signal.SIGSTOP)
    one.give(CELL)
    send(one, signal.SIGTERM)
    send(one, signal.SIGCONT)
    assert one.outcome() == STOPPED
    one.dismiss()


def test_a_process_that_has_ended_is_given_a_cell() -> None:
    one = worker()
    send(one, signal.SIGTERM)
    one.process.join()
    one.give(CELL)
    assert one.outcome() == STOPPED
    one.dismiss()


class Troubled:
    """Dies over the first cell; in the second one the sweep is told to stop."""

    matrix = SimpleNamespace(run_folder=lambda cell: Path(cell.name))

    def run(self, cell: Cell) -> None:
        if cell.seed == 0:
            os._exit(9)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(5)


def test_a_process_that_took_the_place_of_a_dead_one_is_stopped_too() -> None:
    cells = [Cell("digits", "even", "-", "aequa", seed) for seed in range(3)]
    ended: list[tuple[int, str | None]] = []
    stopping: list[bool] = []
    with pytest.raises(RunInterrupted):
        run_cells(
            cast(CellRunner, Troubled()),
            cells,
            workers=1,
            on_end=lambda cell, failure: ended.append((cell.seed, failure)),
            on_stop=lambda: stopping.append(True),
        )
    assert ended == [(0, "its process ended with status 9")]
    assert stopping == [True]


def test_a_cell_knows_nothing_of_the_job_that_its_sweep_is_a_part_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Telling:
        def run(self, cell: Cell) -> str:
            return " ".join(name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_")))

    for name in ("SLURM_PROCID", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    one = Worker(cast(CellRunner, Telling()), 0, None)
    one.give(Cell("digits", "even", "-", "aequa", 0))
    assert one.outcome() == (True, "")
    one.dismiss()
