"""A stop signal in any phase of `aequa fit` ends in 75, or in 0 when all is written, and changes no result."""

import functools
import itertools
import os
import pkgutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.command import TOGETHER, aequa, complaints, largest_difference, outcome, small
from tests.helpers.faults import Action, Fault, run_small, run_tasks, run_with, tell

pytestmark = [pytest.mark.fault, pytest.mark.distributed, pytest.mark.usefixtures("heard_signals")]

# Of a run, in order; two names are those of files that are just about to take their places.
PHASES = {
    "set-up": Fault(print, "set-up"),
    "alone": Fault(print, "training alone", served=True),
    "first round": Fault(print, "training", round=1, served=True),
    "last round": Fault(print, "training", round=2, served=True),
    "last checkpoint": Fault(print, "checkpoint", round=2),
    "payout": Fault(print, "payout"),
    "allocation": Fault(print, file="allocation.json"),
    "manifest": Fault(print, file="manifest.json"),
    "end": Fault(print, "waiting for the end"),
}
SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# What is called outside of the phases that a process notes.
CALLS = {
    "data": "aequa_lightning.data.DigitsData.setup",
    "process": "aequa_lightning.trainer.trainer.Collaboration",
    "report": "aequa_lightning.trainer.trainer.CollaborativeTrainer._report",
}
# Sends a signal to all processes when torch is being imported, or when the interpreter has nearly left.
COMMAND = """
import os, signal, sys, time

place, number, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
command = os.getpid()

def tell():
    os.killpg(os.getpgrp(), number)
    time.sleep(0.2)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch" and place == "imports":
            tell()

class Last:
    def __del__(self):
        if place == "exit" and os.getpid() == command:
            tell()

sys.meta_path.insert(0, Finder())
sys.last_object = Last()
sys.argv[1:] = words
from aequa_lightning.__main__ import main
sys.exit(main())
"""


def _all(number: signal.Signals) -> Action:
    """Return the action of a cluster, which signals all processes of a job."""

    def action() -> None:
        os.killpg(os.getpgrp(), number)
        time.sleep(0.05)

    return action


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert run_with(None, functools.partial(run_small, run_dir, devices=1))[0] == 0
    return run_dir


def _assert_same(run_dir: Path, reference: Path, *, devices: int) -> None:
    assert largest_difference(run_dir, reference) == 0
    # The configuration names the number of processes, which is one in the reference.
    without = () if devices == 1 else ("configuration",)
    for file in ("allocation.json", *(path.relative_to(reference) for path in reference.glob("rewards/*"))):
        assert outcome(run_dir / file, without=without) == outcome(reference / file, without=without), file


# Each of the signals comes in each fourth phase, and one process or two by turns.
@pytest.mark.parametrize(
    ("place", "number", "devices"),
    list(zip([*PHASES, *CALLS], itertools.cycle(SIGNALS), itertools.cycle([2, 1, 1]))),
)
def test_a_signal_in_any_phase(
    tmp_path: Path,
    uninterrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    number: signal.Signals,
    devices: int,
) -> None:
    run = functools.partial(run_small, tmp_path, devices=devices)
    fault = None
    with monkeypatch.context() as patch:
        if place in CALLS:
            called = pkgutil.resolve_name(CALLS[place])

            def interrupted(*arguments: object, **options: object) -> object:
                _all(number)()
                return called(*arguments, **options)

            patch.setattr(CALLS[place], interrupted)
        else:
            planned = PHASES[place]
            fault = Fault(_all(number), planned.phase, 0, planned.round, planned.served, planned.file)
        status, errors = run_with(fault, run)
    assert status in (0, 75), errors
    assert complaints(errors) == []
    if place == "payout":
        assert status == 75
    if status == 75:
        assert errors.endswith("go on with: aequa fit --ckpt_path last\n")
        assert run_with(None, run)[0] == 0
    _assert_same(tmp_path, uninterrupted, devices=devices)


# Files are written by the first one alone.
@pytest.mark.parametrize("place", [name for name, planned in PHASES.items() if not planned.file])
def test_a_signal_to_all_tasks_of_a_job(tmp_path: Path, uninterrupted: Path, place: str) -> None:
    planned = PHASES[place]
    fault = Fault(tell(signal.SIGUSR1), planned.phase, None, planned.round, planned.served)
    run = functools.partial(run_small, tmp_path)
    ends = run_tasks(fault, run)
    assert {status for status, _ in ends} <= {0, 75}, ends
    assert [line for _, errors in ends for line in complaints(errors)] == []
    if 75 in {status for status, _ in ends}:
        assert [status for status, _ in run_tasks(None, run)] == [0, 0]
    _assert_same(tmp_path, uninterrupted, devices=2)


@pytest.mark.parametrize(("place", "expected", "devices"), [("imports", 75, 1), ("exit", 0, 2)])
def test_a_signal_to_the_interpreter_that_comes_or_leaves(
    tmp_path: Path, place: str, expected: int, devices: int
) -> None:
    words = [*small(tmp_path / "run", devices=devices, rounds=1), *TOGETHER, "--ckpt_path=last"]
    number = str(int(signal.SIGUSR1 if devices == 1 else signal.SIGINT))
    command = [sys.executable, "-c", COMMAND, place, number, *words]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr
    if place == "imports":
        assert not (tmp_path / "run").exists()
        assert aequa(*words) == 0
    assert (tmp_path / "run" / "rewards" / "manifest.json").is_file()
