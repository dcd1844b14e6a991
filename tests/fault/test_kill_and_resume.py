"""The command itself, killed and told to stop, goes on to the very result of one that was left alone."""

import functools
import signal
from pathlib import Path

import pytest

from tests.helpers.command import TOGETHER, aequa, events, fit, largest_difference, small
from tests.helpers.faults import Fault, die, run_command, tell

ROUNDS = 3
pytestmark = [pytest.mark.fault, pytest.mark.distributed]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("uninterrupted") / "run", devices=2, rounds=ROUNDS)


def _assert_goes_on(words: list[str], run_dir: Path, reference: Path) -> None:
    assert aequa(*words, "--ckpt_path", "last") == 0
    assert largest_difference(run_dir, reference) == 0
    assert (run_dir / "allocation.json").read_text() == (reference / "allocation.json").read_text()


def test_a_signal_to_the_command_stops_it_resumably(tmp_path: Path, uninterrupted: Path) -> None:
    run_dir = tmp_path / "run"
    words = small(run_dir, devices=2, rounds=ROUNDS)
    fault = Fault(tell(signal.SIGUSR1, parent=True), "training", 1, 2)
    status, errors = run_command(fault, functools.partial(aequa, *words))
    assert status == 75, errors
    assert len(events(run_dir, "stop")) == 1
    _assert_goes_on(words, run_dir, uninterrupted)


def test_the_death_of_one_process_ends_all_and_the_run_can_go_on(tmp_path: Path, uninterrupted: Path) -> None:
    run_dir = tmp_path / "run"
    words = small(run_dir, devices=2, rounds=ROUNDS)
    status, errors = run_command(Fault(die, "training", 1, 3), functools.partial(aequa, *words))
    assert status == 1
    said = [line for line in errors.splitlines() if not line.startswith("round ")]
    assert len(said) == 1, errors
    assert said[0].startswith("aequa: error: rank 1 was killed by SIGKILL")
    _assert_goes_on(words, run_dir, uninterrupted)


def test_a_run_goes_on_from_any_of_its_checkpoints_and_can_be_prolonged(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", *TOGETHER, rounds=4)
    run_dir = fit(tmp_path / "run", *TOGETHER, rounds=3)
    first = run_dir / "checkpoints" / "round-0002.ckpt"
    fit(run_dir, *TOGETHER, f"--ckpt_path={first}", rounds=4)
    assert [event["round"] for event in events(run_dir, "round")] == [1, 2, 3, 3, 4]
    assert largest_difference(run_dir, whole) == 0
