"""The command itself, killed and told to stop, goes on to the very result of one that was left alone."""

import functools
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.command import TOGETHER, aequa, complaints, events, fit, largest_difference, small
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
    (said,) = complaints(errors)
    assert said.startswith("aequa: error: rank 1 was killed by SIGKILL")
    _assert_goes_on(words, run_dir, uninterrupted)


def test_a_run_goes_on_from_any_of_its_checkpoints_and_can_be_prolonged(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", *TOGETHER, rounds=4)
    run_dir = fit(tmp_path / "run", *TOGETHER, rounds=3)
    first = run_dir / "checkpoints" / "round-0002.ckpt"
    fit(run_dir, *TOGETHER, f"--ckpt_path={first}", rounds=4)
    assert [event["round"] for event in events(run_dir, "round")] == [1, 2, 3, 3, 4]
    assert largest_difference(run_dir, whole) == 0


@pytest.mark.parametrize("devices", [1, 2])
def test_leaving_early_is_a_fault_on_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aequa_lightning.callbacks.Progress.on_round_end", lambda *_: sys.exit(0))
    assert aequa(*small(tmp_path / "run", devices=devices), *TOGETHER) == 1
    assert "round 1, callbacks: SystemExit: 0" in capsys.readouterr().err


def test_a_hang_while_data_are_read_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aequa_lightning.data.DigitsData.setup", lambda *_: time.sleep(60))
    words = [*small(tmp_path / "run"), "--trainer.timeout_minutes=0.02"]
    (tmp_path / "run" / "processes").mkdir(parents=True)
    (tmp_path / "run" / "processes" / "reported").touch()  # by a session before
    status, errors = run_command(None, functools.partial(aequa, *words))
    assert status == 1
    assert "rank 0 hangs: it has not computed for longer than trainer.timeout_minutes, in set-up" in errors


@pytest.mark.parametrize(
    ("phase", "round", "options", "message"),
    [
        ("training", 3, TOGETHER, "was paid after round 2, but its last checkpoint is of round 3"),
        ("training alone", None, (), "stands after round 2 of trainer.max_rounds=4"),
    ],
)
def test_a_prolonged_run_that_was_interrupted_is_not_taken_for_a_finished_one(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    phase: str,
    round: int | None,
    options: tuple[str, ...],
    message: str,
) -> None:
    run_dir = fit(tmp_path / "run", *options, rounds=2)
    words = (*small(run_dir, rounds=4), *options, "--ckpt_path", "last")
    status, errors = run_command(Fault(tell(signal.SIGTERM), phase, 0, round), functools.partial(aequa, *words))
    assert status == 75, errors
    rewards = {path: path.read_bytes() for path in (run_dir / "rewards").iterdir()}
    capsys.readouterr()
    # Where no round was added, its files are still those of its last checkpoint.
    for verb in ("allocate", "audit") if round else ("allocate",):
        assert aequa(verb, "--run_dir", run_dir) == 2
        told = f"aequa: error: run_dir='{run_dir}' {message}; finish it with --ckpt_path last.\n"
        assert capsys.readouterr().err.endswith(told)
    assert {path: path.read_bytes() for path in rewards} == rewards
    assert aequa(*words) == 0
    for verb in ("allocate", "audit"):
        assert aequa(verb, "--run_dir", run_dir) == 0


def test_a_run_that_one_process_refuses_has_overwritten_nothing(tmp_path: Path) -> None:
    words = ("--trainer.participant_state=keep", "--trainer.keep_checkpoints=4", *TOGETHER)
    run_dir = fit(tmp_path / "run", *words, devices=2, rounds=3)
    (run_dir / "participants" / "round-0001" / "participant-01.pt").write_bytes(b"damaged")
    before = {path: path.read_bytes() for path in [*(run_dir / "checkpoints").iterdir(), run_dir / "config.yaml"]}
    old = f"--ckpt_path={run_dir}/checkpoints/round-0001.ckpt"
    assert aequa(*small(run_dir, devices=2, rounds=5), *words, old) == 2
    assert {path: path.read_bytes() for path in before} == before
