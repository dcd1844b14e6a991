"""The command itself, killed and told to stop, goes on to the very result of one that was left alone."""

import os
import signal
from pathlib import Path

import pytest

from tests.helpers.command import aequa, events, fit, largest_difference, small, start, wait_until

ROUNDS = 6
# Page and programs take longer than everything else here.
BARE = ("--trainer.report=false", "--trainer.programs=false")
pytestmark = [pytest.mark.fault, pytest.mark.distributed]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("uninterrupted") / "run", *BARE, devices=2, rounds=ROUNDS)


def _assert_goes_on(words: list[str], run_dir: Path, reference: Path) -> None:
    assert aequa(*words, "--ckpt_path", "last") == 0
    assert largest_difference(run_dir, reference) == 0
    assert (run_dir / "allocation.json").read_text() == (reference / "allocation.json").read_text()


def test_a_signal_to_the_command_stops_it_resumably(tmp_path: Path, uninterrupted: Path) -> None:
    run_dir = tmp_path / "run"
    words = [*small(run_dir, devices=2, rounds=ROUNDS), *BARE]
    process = start(words)
    wait_until(lambda: len(events(run_dir, "round")) >= 2, process)
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert len(events(run_dir, "stop")) == 1
    _assert_goes_on(words, run_dir, uninterrupted)


def test_the_death_of_one_process_ends_all_and_the_run_can_go_on(tmp_path: Path, uninterrupted: Path) -> None:
    run_dir = tmp_path / "run"
    words = [*small(run_dir, devices=2, rounds=ROUNDS), *BARE]
    process = start(words)
    wait_until(lambda: len(events(run_dir, "round")) >= 2, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 1
    said = [line for line in errors.splitlines() if not line.startswith("round ")]
    assert len(said) == 1, errors
    assert said[0].startswith("aequa: error: rank 1 was killed by SIGKILL")
    _assert_goes_on(words, run_dir, uninterrupted)


def test_a_run_goes_on_from_any_of_its_checkpoints_and_can_be_prolonged(tmp_path: Path) -> None:
    words = ("--trainer.mechanism=SharedModel", *BARE)
    whole = fit(tmp_path / "whole", *words, rounds=4)
    # Alone everybody trains for as many epochs as the run has rounds, so only what is shared is compared.
    run_dir = fit(tmp_path / "run", *words, rounds=3)
    first = run_dir / "checkpoints" / "round-0002.ckpt"
    fit(run_dir, *words, f"--ckpt_path={first}", rounds=4)
    assert [event["round"] for event in events(run_dir, "round")] == [1, 2, 3, 3, 4]
    assert largest_difference(run_dir, whole) == 0
