"""Stop signals: a signal sets a flag, and all processes agree to stop after the round."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from aequa_lightning.errors import INTERRUPTED, RunInterrupted

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """Remembers the first stop signal that this process received."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._leaves = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch stop signals within the block and restore the former handlers after it."""

        def remember(number: int, frame: FrameType | None) -> None:
            if self.received is None:
                self.received = signal.Signals(number)
                if self._leaves:
                    raise RunInterrupted
            elif number == signal.SIGINT:
                # A second Ctrl-C stops at once.
                raise KeyboardInterrupt

        with _handled_by(remember):
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
def exiting_on_signal(*, to_the_end: bool = False) -> Iterator[None]:
    """Let a stop signal end this process at once with the status of an interrupted run.

    For code before and after training, where nothing has to be saved.

    Args:
        to_the_end: Whether the process ends with the block. Then signals are ignored after it, because one that
            comes while the interpreter exits would change the exit status.
    """
    with _handled_by(_end) as former:
        try:
            yield
        finally:
            if to_the_end:
                former.update(dict.fromkeys(former, signal.SIG_IGN))


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


@contextmanager
def exiting_while_blocked() -> Iterator[None]:
    """Let :func:`exiting_on_signal` end this process also while it waits for other processes.

    Python runs handlers in the main thread, which is blocked while it waits. Another thread handles signals here.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def watch() -> None:
        # Python writes the number of each signal that has a handler; the end of the block writes zero.
        while number := os.read(reading, 1)[0]:
            if signal.getsignal(number) is _end:
                os._exit(INTERRUPTED)

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
    """Forward stop signals to forked processes, because schedulers and users signal the parent only.

    Args:
        children: Their process ids.

    Yields:
        The request, with the signal that has come.
    """
    stop = StopRequest()

    def forward(number: int, frame: FrameType | None) -> None:
        stop.received = signal.Signals(number)
        # The terminal already sends Ctrl-C to the whole foreground group.
        if number != signal.SIGINT:
            for child in children:
                # It may have ended; its process id is not reused before it is waited for.
                with suppress(ProcessLookupError):
                    os.kill(child, number)

    with _handled_by(forward):
        yield stop


@contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], None],
) -> Iterator[dict[signal.Signals, Any]]:
    """Let stop signals call the handler within the block, and restore the former handlers after it.

    Yields:
        The former handlers; changes to this dictionary are what is restored.

    Python accepts handlers in the main thread only; in another thread the block runs without them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield {}
        return
    former: dict[signal.Signals, Any] = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    try:
        yield former
    finally:
        for number, before in former.items():
            # None: a handler that was not set from Python and cannot be restored from there.
            if before is not None:
                signal.signal(number, before)
