import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event

import pytest

from aequa_lightning.collaboration.signals import STOP_SIGNALS, StopRequest, ending_at_once, passing_on_signals


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
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
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(number) == before
