"""A run that is killed and continued ends exactly like one that was left alone."""

import os
import signal
from pathlib import Path

import pytest

from tests.helpers.command import aequa, events, fit, largest_difference, small, start, wait_until

ROUNDS = 15
pytestmark = [pytest.mark.fault, pytest.mark.distributed]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("uninterrupted") / "run", devices=2, rounds=ROUNDS)


def _assert_same(run_dir: Path, reference: Path) -> None:
    assert largest_difference(run_dir, reference) == 0
    assert (run_dir / "allocation.json").read_text() == (reference / "allocation.json").read_text()


@pytest.mark.parametrize("moment", ["alone", "together"])
def test_sigkill_of_everything(tmp_path: Path, uninterrupted: Path, moment: str) -> None:
    run_dir = tmp_path / "run"
    words = small(run_dir, devices=2, rounds=ROUNDS)
    process = start(words)
    if moment == "alone":
        wait_until(lambda: any((run_dir / "standalone").glob("*.json")), process)
    else:
        wait_until(lambda: len(events(run_dir, "round")) >= 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (run_dir / "allocation.json").exists()
    assert aequa(*words, "--ckpt_path", "last") == 0
    _assert_same(run_dir, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_command_stops_it_resumably(tmp_path: Path, uninterrupted: Path, number: int) -> None:
    run_dir = tmp_path / "run"
    words = small(run_dir, devices=2, rounds=ROUNDS)
    process = start(words)
    wait_until(lambda: len(events(run_dir, "round")) >= 2, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert len(events(run_dir, "stop")) == 1
    assert aequa(*words, "--ckpt_path", "last") == 0
    _assert_same(run_dir, uninterrupted)


def test_the_death_of_one_process_ends_all_and_the_run_can_go_on(tmp_path: Path, uninterrupted: Path) -> None:
    run_dir = tmp_path / "run"
    words = small(run_dir, devices=2, rounds=ROUNDS)
    process = start(words)
    wait_until(lambda: len(events(run_dir, "round")) >= 2, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "SIGKILL" in errors or "closed" in errors
    assert aequa(*words, "--ckpt_path", "last") == 0
    _assert_same(run_dir, uninterrupted)


def test_a_run_goes_on_from_any_of_its_checkpoints_and_can_be_prolonged(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", "--trainer.mechanism=SharedModel", rounds=4)
    # Alone everybody trains for as many epochs as the run has rounds, so only what is shared is compared.
    run_dir = fit(tmp_path / "run", "--trainer.mechanism=SharedModel", rounds=2)
    first = run_dir / "checkpoints" / "round-0001.ckpt"
    fit(run_dir, "--trainer.mechanism=SharedModel", f"--ckpt_path={first}", rounds=4)
    assert [event["round"] for event in events(run_dir, "round")] == [1, 2, 2, 3, 4]
    assert largest_difference(run_dir, whole) == 0
