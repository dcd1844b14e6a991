"""Stop signals: a signal sets a flag, and all processes agree to stop after the round; another one stops at once."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from aequa_lightning.errors import INTERRUPTED, RunInterrupted
from aequa_lightning.runtime.terminal import leave_lost_terminal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
# Schedulers send it ahead of time; the SIGTERM that follows is the first request to hurry, not the second.
NOTICE = signal.SIGUSR1
# Seconds in which several signals are one request: a terminal, `timeout` and a launcher each send their own.
ONE_REQUEST = 1.0


class StopRequest:
    """Remembers the first stop signal that this process received, and raises when it is asked again.

    Attributes:
        received: The first signal; None: there was none.
        announce: Called once, soon after the first signal, from a thread of its own: this process may be blocked.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.announce: Callable[[], None] | None = None
        self._since: float | None = None
        self._leaves = False

    def is_repeated(self, number: int) -> bool:
        """Note a signal, and return whether it repeats an earlier request.

        Args:
            number: Its number. Signals less than ``ONE_REQUEST`` seconds apart are one request.
        """
        if self.received is None:
            self.received = signal.Signals(number)
        if number == NOTICE:
            return False
        before, now = self._since, time.monotonic()
        if before is None or now - before > ONE_REQUEST:
            self._since = now
        return before is not None and now - before > ONE_REQUEST

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch stop signals within the block and restore the former handlers after it.

        A repeated signal raises a ``KeyboardInterrupt``.
        """

        def remember(number: int, frame: FrameType | None) -> None:
            leave_lost_terminal()
            first, repeated = self.received is None, self.is_repeated(number)
            if self._leaves and first:
                raise RunInterrupted
            if repeated:
                raise KeyboardInterrupt

        announced = threading.Event()

        def announce(number: int) -> None:
            if self.announce is not None and not announced.is_set():
                announced.set()
                self.announce()

        with _handled_by(remember), _watching_signals(announce):
            yield

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Let the next signal raise within the block, whose work is repeated when the run is resumed.

        Raises:
            RunInterrupted: A signal has come.
        """
        self._leaves = True
        try:
            yield
        finally:
            self._leaves = False


@contextmanager
def exiting_on_signal(message: str = "", *, to_the_end: bool = False) -> Iterator[None]:
    """Let a stop signal end this process at once with the status of an interrupted run.

    For code before and after training, where nothing has to be saved.

    Args:
        message: Printed then, by this process but not by its forks.
        to_the_end: Whether the process ends with the block. Then signals are ignored after it, because one that
            comes while the interpreter exits would change the exit status.
    """
    with _handled_by(_Exit(message)) as former:
        try:
            yield
        finally:
            if to_the_end:
                former.update(dict.fromkeys(former, signal.SIG_IGN))


class _Exit:
    """A handler that ends this process."""

    def __init__(self, message: str) -> None:
        self.message, self._process = message, os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        leave_lost_terminal()
        if self.message and os.getpid() == self._process:
            # Python's own streams may be in use at this moment.
            with suppress(OSError):
                os.write(2, f"{self.message}\n".encode())
        os._exit(INTERRUPTED)


@contextmanager
def exiting_while_blocked() -> Iterator[None]:
    """Let :func:`exiting_on_signal` end this process also while it waits for other processes.

    Python runs handlers in the main thread, which is blocked while it waits. Another thread handles signals here.
    """

    def leave(number: int) -> None:
        handler = signal.getsignal(number)
        if isinstance(handler, _Exit):
            handler(number, None)

    with _watching_signals(leave):
        yield


@contextmanager
def _watching_signals(on_signal: Callable[[int], None]) -> Iterator[None]:
    """Call a function in another thread as soon as a stop signal comes, even while the main thread is blocked."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        # Python writes the number of each signal that has a handler; the end of the block writes zero.
        while number := os.read(reading, 1)[0]:
            if number in STOP_SIGNALS:
                on_signal(number)

    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    former = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(former)
        os.write(writing, bytes(1))
        watcher.join()
        os.close(reading)
        os.close(writing)


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Block stop signals until the end of the block; processes started in it unblock them by ``unblock_signals``."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        unblock_signals()


def unblock_signals() -> None:
    """Unblock stop signals; pending ones are handled now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def ignore_stop_signals() -> None:
    """Ignore the signals of schedulers until this process has reported a failure; Ctrl-C still ends it."""
    if threading.current_thread() is threading.main_thread():
        for number in STOP_SIGNALS:
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_IGN)


@contextmanager
def forwarding_signals(children: Sequence[int]) -> Iterator[StopRequest]:
    """Forward stop signals to forked processes, because schedulers, editors and users may signal the parent only.

    A terminal sends Ctrl-C to the children too; the two that they receive then are one request.

    Args:
        children: Their process ids.

    Yields:
        The request, with the signal that has come.

    Raises:
        KeyboardInterrupt: A signal has come again; the caller ends the children.
    """
    stop = StopRequest()

    def forward(number: int, frame: FrameType | None) -> None:
        leave_lost_terminal()
        if stop.is_repeated(number):
            raise KeyboardInterrupt
        for child in children:
            # It may have ended; its process id is not reused before it is waited for.
            with suppress(ProcessLookupError):
                os.kill(child, number)

    with _handled_by(forward):
        yield stop


def heard_signals() -> tuple[signal.Signals, ...]:
    """Return the stop signals that this process does not ignore.

    ``nohup`` starts a program with an ignored SIGHUP, and a shell script starts one with ``&`` with an ignored SIGINT:
    an ignored signal stays ignored.
    """
    return tuple(number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN)


@contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], None],
) -> Iterator[dict[signal.Signals, Any]]:
    """Let the heard stop signals call the handler within the block, and restore the former handlers after it.

    Yields:
        The former handlers; changes to this dictionary are what is restored.

    Python accepts handlers in the main thread only; in another thread the block runs without them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield {}
        return
    former: dict[signal.Signals, Any] = {number: signal.signal(number, handler) for number in heard_signals()}
    try:
        yield former
    finally:
        for number, before in former.items():
            # None: a handler that was not set from Python and cannot be restored from there.
            if before is not None:
                signal.signal(number, before)
