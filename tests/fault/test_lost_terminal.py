"""A terminal that is closed takes nothing with it: the run is saved."""

import fcntl
import os
import pty
import termios
import time
from pathlib import Path

import pytest

from tests.helpers.command import events, parameters
from tests.helpers.faults import Fault, run_small, run_with

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("heard_signals")]


def test_a_run_is_saved_when_its_terminal_is_closed(tmp_path: Path) -> None:
    masters: list[int] = []

    def run_in_terminal() -> None:
        master, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        for descriptor in range(3):
            os.dup2(terminal, descriptor)
        os.close(terminal)
        masters.append(master)
        run_small(tmp_path, devices=1)

    def close_terminal() -> None:
        os.close(masters.pop())  # the kernel sends a SIGHUP, and every write fails from now on
        time.sleep(0.1)

    status, _ = run_with(Fault(close_terminal, "training", 0, 1), run_in_terminal)
    assert status == 75
    (stop,) = events(tmp_path, "stop")
    assert (stop["signal"], stop["round"]) == ("SIGHUP", 1)
    assert parameters(tmp_path, 1)
