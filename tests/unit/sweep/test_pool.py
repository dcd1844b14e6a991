"""A signal may reach a process of the pool at any moment; each is made to happen here at one point."""

import os
import signal
from typing import cast
from unittest import mock

from aequa_lightning.sweep import pool
from aequa_lightning.sweep.cells import CellRunner
from aequa_lightning.sweep.matrix import Cell
from aequa_lightning.sweep.pool import Worker

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

    with mock.patch.object(pool, "die_with", first_thing):
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
