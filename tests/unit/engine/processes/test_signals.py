import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event

import pytest
import torch.distributed as dist

from aequa_lightning.engine.processes import signals
from aequa_lightning.engine.processes.signals import (
    STOP_SIGNALS,
    StopRequest,
    exiting_on_signal,
    exiting_while_blocked,
    forwarding_signals,
    heard_signals,
)
from aequa_lightning.errors import RunInterrupted

pytestmark = pytest.mark.usefixtures("heard_signals")


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_signal_sets_the_flag_and_handlers_are_restored(number: signal.Signals) -> None:
    former = [signal.getsignal(each) for each in STOP_SIGNALS]
    stop = StopRequest()
    with stop.listening():
        assert stop.received is None
        os.kill(os.getpid(), number)
        assert stop.received == number
    assert [signal.getsignal(each) for each in STOP_SIGNALS] == former


def test_signal_received_first_is_stored() -> None:
    stop = StopRequest()
    with stop.listening():
        for number in (signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
    assert stop.received == signal.SIGTERM


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_that_comes_again_raises_at_once(monkeypatch: pytest.MonkeyPatch, second: signal.Signals) -> None:
    monkeypatch.setattr(signals, "ONE_REQUEST", 0.05)
    with StopRequest().listening():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), second)  # as a terminal and a launcher do
        time.sleep(0.1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)


def test_signal_after_the_notice_of_a_scheduler_is_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "ONE_REQUEST", 0.0)
    with StopRequest().listening():
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
            time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signal_that_is_ignored_from_the_start_stays_ignored(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    stop = StopRequest()
    with exiting_on_signal(to_the_end=True), forwarding_signals([]) as forwarded, stop.listening():
        assert number not in heard_signals()
        os.kill(os.getpid(), number)
        time.sleep(0.01)
    assert stop.received is forwarded.received is None
    assert signal.getsignal(number) == signal.SIG_IGN


def test_signal_is_announced_once_while_the_process_is_busy() -> None:
    stop, announced = StopRequest(), []
    stop.announce = lambda: announced.append(time.monotonic())
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with stop.listening():
        hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)  # most of a second without a handler
        ended = time.monotonic()
        time.sleep(0.3)
    (when,) = announced
    assert when < ended


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
    with forwarding_signals([child.pid]) as stop:
        assert listening.wait(60)
        yield child, stop
        child.join(10)


def test_signal_is_forwarded_to_the_children() -> None:
    with _passing_on_to_a_child() as (child, stop):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert child.exitcode == stop.received == signal.SIGUSR1


def test_signal_interrupt_of_the_parent_alone_reaches_the_children() -> None:
    with _passing_on_to_a_child() as (child, stop):
        os.kill(os.getpid(), signal.SIGINT)
    assert child.exitcode == stop.received == signal.SIGINT


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_signal_exits_with_the_status_of_an_interrupted_run(number: signal.Signals) -> None:
    def work() -> None:
        with exiting_on_signal():
            os.kill(os.getpid(), number)
            time.sleep(10)

    before = signal.getsignal(number)
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 75
    with exiting_on_signal():
        pass
    assert signal.getsignal(number) == before


def test_signal_at_the_end_of_a_process_does_not_change_its_status() -> None:
    def work() -> None:
        with exiting_on_signal(to_the_end=True):
            pass
        for number in STOP_SIGNALS:
            os.kill(os.getpid(), number)
        os._exit(3)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 3


def test_signal_raises_at_once_in_repeatable_work() -> None:
    stop = StopRequest()
    with stop.listening():
        with pytest.raises(RunInterrupted), stop.leaving():
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # outside a signal is only remembered
    assert stop.received == signal.SIGTERM


def _wait_for_a_process_that_never_comes(waiting: Event) -> None:
    with exiting_on_signal(), exiting_while_blocked():
        waiting.set()
        with suppress(dist.DistError):
            dist.TCPStore("127.0.0.1", 1, is_master=False, timeout=timedelta(seconds=60))


def test_signal_ends_a_process_that_is_blocked() -> None:
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


def test_signal_handlers_of_the_caller_are_kept_while_blocked() -> None:
    former, came = signal.getsignal(signal.SIGUSR1), []
    signal.signal(signal.SIGUSR1, lambda *_: came.append(True))
    try:
        with exiting_while_blocked():
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert came == [True]
    assert signal.set_wakeup_fd(-1) == -1
