"""Stopping when the cluster asks: a signal only sets a flag, and all processes agree at the next safe point."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from aequa_lightning.errors import INTERRUPTED

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """Remembers the first stop signal that this process received."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch stop signals within the block and restore the former handlers after it."""

        def remember(number: int, frame: FrameType | None) -> None:
            if self.received is None:
                self.received = signal.Signals(number)
            elif number == signal.SIGINT:
                # A second Ctrl-C means it: do not wait for the safe point.
                raise KeyboardInterrupt

        with _handled_by(remember):
            yield


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let a scheduler's signal end this process with the status of an interrupted run, where nothing has to be saved.

    So it is before a run listens, in forked processes too, and after its last checkpoint. Ctrl-C stays what it is.
    """
    with _handled_by(lambda *_: os._exit(INTERRUPTED), of_schedulers()):
        yield


def of_schedulers() -> list[signal.Signals]:
    """Return the stop signals that schedulers send."""
    return [number for number in STOP_SIGNALS if number != signal.SIGINT]


@contextmanager
def holding_back_signals() -> Iterator[None]:
    """Let stop signals wait for the end of the block; in a process started in it they wait for ``let_in_signals``."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        let_in_signals()


def let_in_signals() -> None:
    """Receive stop signals, also those that were held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def ignore_stop_signals() -> None:
    """Let no scheduler end this process before it has said its last word; Ctrl-C still does."""
    if threading.current_thread() is threading.main_thread():
        for number in of_schedulers():
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def passing_on_signals(children: Sequence[int]) -> Iterator[StopRequest]:
    """Hand stop signals on to forked processes: schedulers and users know the parent's number only.

    Args:
        children: Their process ids.

    Yields:
        Which signal has come.
    """
    stop = StopRequest()

    def forward(number: int, frame: FrameType | None) -> None:
        stop.received = signal.Signals(number)
        # The terminal already sends Ctrl-C to the whole foreground group.
        if number != signal.SIGINT:
            for child in children:
                # It may have ended; its number stays its own until it is waited for.
                with suppress(ProcessLookupError):
                    os.kill(child, number)

    with _handled_by(forward):
        yield stop


@contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], None], numbers: Sequence[signal.Signals] = STOP_SIGNALS
) -> Iterator[None]:
    """Let signals call the handler within the block, and restore the former handlers after it.

    Python takes handlers from the main thread alone. In another one the block runs without: signals are then the
    business of whoever has started the thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in former.items():
            # None: a handler that was not set from Python, and cannot be set again from there.
            if before is not None:
                signal.signal(number, before)
