import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event

import pytest
import torch.distributed as dist

from aequa_lightning.engine.processes.signals import (
    STOP_SIGNALS,
    StopRequest,
    ending_at_once,
    ending_while_blocked,
    passing_on_signals,
)
from aequa_lightning.errors import RunInterrupted


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_sets_the_flag_and_handlers_are_restored(number: signal.Signals) -> None:
    former = [signal.getsignal(each) for each in STOP_SIGNALS]
    stop = StopRequest()
    with stop.listening():
        assert stop.received is None
        os.kill(os.getpid(), number)
        assert stop.received == number
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == former


def test_the_first_signal_is_the_one_that_counts() -> None:
    stop = StopRequest()
    with stop.listening():
        for number in (signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
    assert stop.received == signal.SIGTERM


def test_a_second_interrupt_does_not_wait() -> None:
    with StopRequest().listening():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def _wait_for_signal(listening: Event) -> None:
    stop = StopRequest()
    with stop.listening():
        listening.set()
        while stop.received is None:
            time.sleep(0.01)
    os._exit(stop.received)


@contextmanager
def _passing_on_to_a_child() -> Iterator[tuple[ForkProcess, StopRequest]]:
    """Pass on signals to a child that ends with the number of the first one that it receives."""
    context = multiprocessing.get_context("fork")
    listening = context.Event()
    child = context.Process(target=_wait_for_signal, args=(listening,))
    child.start()
    assert child.pid is not None
    with passing_on_signals([child.pid]) as stop:
        assert listening.wait(60)
        yield child, stop
        child.join(10)


def test_signals_reach_the_children() -> None:
    with _passing_on_to_a_child() as (child, stop):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert child.exitcode == stop.received == signal.SIGUSR1


def test_an_interrupt_is_left_to_the_terminal_which_sends_it_to_all() -> None:
    with _passing_on_to_a_child() as (child, stop):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        os.kill(os.getpid(), signal.SIGTERM)
    assert child.exitcode == signal.SIGTERM


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_where_nothing_has_to_be_saved_a_signal_ends_a_process_as_interrupted(number: signal.Signals) -> None:
    def work() -> None:
        with ending_at_once():
            os.kill(os.getpid(), number)
            time.sleep(10)

    before = signal.getsignal(number)
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 75
    with ending_at_once():
        pass
    assert signal.getsignal(number) == before


def test_at_the_end_of_a_process_signals_change_its_status_no_more() -> None:
    def work() -> None:
        with ending_at_once(to_the_end=True):
            pass
        for number in STOP_SIGNALS:
            os.kill(os.getpid(), number)
        os._exit(3)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 3


def test_what_is_done_again_is_left_at_the_first_signal() -> None:
    stop = StopRequest()
    with stop.listening():
        with pytest.raises(RunInterrupted), stop.leaving():
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # outside a signal is only remembered
    assert stop.received == signal.SIGTERM


def _wait_for_a_process_that_never_comes(waiting: Event) -> None:
    with ending_at_once(), ending_while_blocked():
        waiting.set()
        with suppress(dist.DistError):
            dist.TCPStore("127.0.0.1", 1, is_master=False, timeout=timedelta(seconds=60))


def test_a_signal_ends_a_process_that_waits_for_another_one() -> None:
    context = multiprocessing.get_context("fork")
    waiting = context.Event()
    child = context.Process(target=_wait_for_a_process_that_never_comes, args=(waiting,))
    child.start()
    assert waiting.wait(60)
    time.sleep(0.3)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGUSR1)
    child.join(20)
    assert child.exitcode == 75


def test_a_callers_handlers_are_left_alone_while_processes_wait_for_each_other() -> None:
    former, came = signal.getsignal(signal.SIGUSR1), []
    signal.signal(signal.SIGUSR1, lambda *_: came.append(True))
    try:
        with ending_while_blocked():
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert came == [True]
    assert signal.set_wakeup_fd(-1) == -1
