"""Whatever happens to a run, it ends soon, says why in one message, and goes on to the very result of one left alone.

Every case is a run of two processes that are forked from this one, so that deaths and signals are real.
"""

import functools
import itertools
import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from aequa_lightning.data import DigitsData
from aequa_lightning.engine.processes import signals
from aequa_lightning.engine.processes.status import ProcessStatus, read_statuses
from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.events import read_events
from aequa_lightning.run_folder.lock import locked
from tests.helpers.command import complaints, events, largest_difference, outcome
from tests.helpers.faults import (
    Fault,
    die,
    end_everything,
    fill,
    hang,
    limit_files,
    run_small,
    run_tasks,
    run_with,
    tell,
    throw,
)

pytestmark = [pytest.mark.fault, pytest.mark.distributed, pytest.mark.usefixtures("heard_signals")]
RESULT = ("contributions.csv", "allocation.json", "frontier.json", "rewards/manifest.json")
PHASES = ("training alone", "training", "reduction", "evaluation", "callbacks", "record", "checkpoint", "payout")


def _run(run_dir: Path, fault: Fault | None = None, **options: object) -> tuple[int, str]:
    """Run, and return the exit status and the one message on standard error, if there is one."""
    status, errors = run_with(fault, functools.partial(run_small, run_dir, **options))  # type: ignore[arg-type]
    said = complaints(errors)
    assert len(said) <= 1, errors
    return status, "".join(said)


def _assert_goes_on(
    run_dir: Path, reference: Path, *, devices: int = 2, warning: str = "", record: bool = True
) -> None:
    """Go on with a run and compare its result, to the bit, with that of one that nothing has happened to."""
    status, errors = run_with(None, functools.partial(run_small, run_dir, devices=devices))
    assert status == 0, errors
    assert re.search(warning, errors) if warning else "Warning" not in errors
    assert largest_difference(run_dir, reference) == 0
    # The configuration names the number of processes; who held what in the rounds is known from the record alone.
    without = {*(() if devices == 2 else ("configuration",)), *(() if record else ("best_held", "held"))}
    for name in RESULT:
        assert outcome(run_dir / name, without=without) == outcome(reference / name, without=without), name
    # What a session told half is told again.
    (recorded, expected) = (
        {event["participant"] for event in read_events(folder / "events.jsonl") if event["event"] == "standalone"}
        for folder in (run_dir, reference)
    )
    assert recorded == expected


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert _run(run_dir) == (0, "")
    paid = json.loads((run_dir / "allocation.json").read_text())["participants"]
    assert len({person["width"] for person in paid}) > 1, "all are paid alike, so little is tested"
    return run_dir


# --- deaths ----------------------------------------------------------------------------------------------------------


# Both ranks in turn.
@pytest.mark.parametrize(("phase", "rank"), list(zip(PHASES, itertools.cycle([0, 1]))))
def test_the_death_of_a_process(tmp_path: Path, uninterrupted: Path, phase: str, rank: int) -> None:
    number = 2 if phase in PHASES[1:-1] else None
    fault = Fault(die, phase, rank, number, served="training" in phase)
    status, message = _run(tmp_path / "run", fault)
    assert status == 1
    where = f"round {number}, {phase}" if number else phase
    whom = r" of participant-0\d" if fault.served else ""
    assert re.match(
        rf"aequa: error: rank {rank} was killed by SIGKILL \(.*\) in {where}{whom}\. .*--ckpt_path last", message
    )
    _assert_goes_on(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize(
    "file",
    [
        *("config.yaml", "participant-00.json", "metrics.csv"),
        *("round-0001.ckpt", "round-0002.ckpt", "round-0002.ckpt.sha256", "last.ckpt"),
        *("participant-00.ckpt", "contributions.csv", "manifest.json", "allocation.json", "frontier.json"),
    ],
)
def test_death_in_the_middle_of_writing(tmp_path: Path, uninterrupted: Path, file: str) -> None:
    status, message = _run(tmp_path / "run", Fault(die, file=file))
    assert status == 1
    assert "was killed by SIGKILL" in message
    (half,) = (tmp_path / "run").rglob(f".{file}.*tmp")
    _assert_goes_on(tmp_path / "run", uninterrupted)
    # What participants reach alone may lie in a folder of many runs, where nobody knows who is writing.
    assert half.exists() == (half.parent.name == "standalone")


@pytest.mark.parametrize("devices", [1, 3])
def test_going_on_with_another_number_of_processes(tmp_path: Path, uninterrupted: Path, devices: int) -> None:
    assert _run(tmp_path / "run", Fault(die, "reduction", 1, 2))[0] == 1
    _assert_goes_on(tmp_path / "run", uninterrupted, devices=devices)


@pytest.mark.parametrize("action", [end_everything, tell(signal.SIGKILL, parent=True)], ids=["all", "alone"])
def test_the_death_of_the_command(tmp_path: Path, uninterrupted: Path, action: Callable[[], object]) -> None:
    assert _run(tmp_path / "run", Fault(action, "evaluation", 1, 2)) == (-signal.SIGKILL, "")
    # The processes did not go on without it.
    assert not (tmp_path / "run" / "allocation.json").exists()
    _assert_goes_on(tmp_path / "run", uninterrupted)


def test_the_death_of_a_run_in_one_process(tmp_path: Path, uninterrupted: Path) -> None:
    assert _run(tmp_path / "run", Fault(die, "callbacks", 0, 2), devices=1) == (-signal.SIGKILL, "")
    _assert_goes_on(tmp_path / "run", uninterrupted)


def test_the_death_of_a_replica(tmp_path: Path) -> None:
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    assert _run(whole, replicas=2) == (0, "")
    status, message = _run(run_dir, Fault(die, "training", 1, 2, served=True), replicas=2)
    assert (status, "rank 1 was killed by SIGKILL" in message) == (1, True)
    assert _run(run_dir, replicas=2) == (0, "")
    assert largest_difference(run_dir, whole) == 0


# --- errors and hangs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("phase", "rank"), [("training", 0), ("callbacks", 1)])
def test_an_error_in_a_process(tmp_path: Path, uninterrupted: Path, phase: str, rank: int) -> None:
    status, message = _run(tmp_path / "run", Fault(throw(ValueError("no")), phase, rank, 2, served=phase == "training"))
    assert status == 1
    whom = r" of participant-0\d" if phase == "training" else ""
    assert re.match(rf"aequa: error: rank {rank}, round 2, {phase}{whom}: ValueError: no\. .*--ckpt_path last", message)
    assert "raise error\nValueError: no" in (tmp_path / "run" / "failure.log").read_text()
    _assert_goes_on(tmp_path / "run", uninterrupted)


def test_out_of_memory(tmp_path: Path, uninterrupted: Path) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
    status, message = _run(tmp_path / "run", Fault(throw(error), "training", 1, 2, served=True))
    assert status == 1
    assert re.search(r"rank 1, round 2, training of participant-0\d: out of memory with data.batch_size=8", message)
    _assert_goes_on(tmp_path / "run", uninterrupted)


def test_bad_input_that_shows_late(tmp_path: Path, uninterrupted: Path) -> None:
    fault = Fault(throw(InputError("data.root is empty")), "training alone", 1)
    assert _run(tmp_path / "run", fault) == (2, "aequa: error: data.root is empty")
    _assert_goes_on(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize(("rank", "phase"), [(0, "training"), (1, "training"), (0, "payout")])
def test_a_hang(tmp_path: Path, uninterrupted: Path, rank: int, phase: str) -> None:
    fault = Fault(hang, phase, rank, served=phase == "training")
    status, message = _run(tmp_path / "run", fault, minutes=0.025)
    assert status == 1
    assert f"rank {1 - rank} waited for rank {rank} longer than trainer.timeout_minutes" in message
    assert re.search(rf"rank {rank} was last seen in .*{phase}", message)
    _assert_goes_on(tmp_path / "run", uninterrupted)


def test_a_hang_of_all_processes(tmp_path: Path, uninterrupted: Path) -> None:
    fault = Fault(hang, "training", rank=None, served=True, round=2)
    status, message = _run(tmp_path / "run", fault, minutes=0.025)
    assert status == 1
    assert re.search("rank [01] hangs: .*timeout_minutes, in round 2, training of participant", message)
    assert message.count("hangs") == 1
    assert re.search(r"faults\.py.* in hang", (tmp_path / "run" / "failure.log").read_text())
    _assert_goes_on(tmp_path / "run", uninterrupted)


def test_a_hang_of_the_only_process(tmp_path: Path, uninterrupted: Path) -> None:
    fault = Fault(hang, "training", 0, served=True, round=2)
    status, message = _run(tmp_path / "run", fault, devices=1, minutes=0.025)
    assert status == 1
    assert re.search("rank 0 hangs: .*timeout_minutes, in round 2, training of participant", message)
    assert re.search(r"faults\.py.* in hang", (tmp_path / "run" / "failure.log").read_text())
    _assert_goes_on(tmp_path / "run", uninterrupted)


# --- a second command ------------------------------------------------------------------------------------------------


def test_a_second_run_in_the_folder(tmp_path: Path, uninterrupted: Path) -> None:
    # What the second one raises ends the process of the first one that it is called in.
    fault = Fault(functools.partial(run_small, tmp_path / "run"), "training", 0, 2)
    status, message = _run(tmp_path / "run", fault)
    assert status == 2
    assert re.match(rf"aequa: error: trainer.run_dir='{tmp_path}/run' is in use by process \d+ on .*; wait", message)
    _assert_goes_on(tmp_path / "run", uninterrupted)


def test_tasks_in_the_folder_of_another_run(tmp_path: Path) -> None:
    ProcessStatus(tmp_path, 0)
    with locked(tmp_path):
        first, second = run_tasks(None, functools.partial(run_small, tmp_path, minutes=0.025))
    assert first[0] == 2
    assert "is in use by process" in first[1]
    assert second[0] == 1
    # The notes of the run that holds the folder are still there.
    assert 0 in read_statuses(tmp_path)


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "rank"), [(signal.SIGTERM, 0), (signal.SIGUSR1, 1), (signal.SIGINT, 0)])
def test_a_signal_to_any_process(tmp_path: Path, uninterrupted: Path, number: signal.Signals, rank: int) -> None:
    assert _run(tmp_path / "run", Fault(tell(number), "training", rank, 1)) == (75, "")
    (stop,) = events(tmp_path / "run", "stop")
    assert stop["round"] == 1
    _assert_goes_on(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize(
    ("phase", "number"),
    [("set-up", signal.SIGTERM), ("training alone", signal.SIGHUP), ("training", signal.SIGINT)],
)
def test_a_signal_to_the_command(tmp_path: Path, uninterrupted: Path, phase: str, number: signal.Signals) -> None:
    assert _run(tmp_path / "run", Fault(tell(number, parent=True), phase, 1)) == (75, "")
    _assert_goes_on(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize(("number", "parent"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_second_signal_stops_at_once(
    tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, parent: bool
) -> None:
    def insist() -> None:
        tell(number, parent=parent)()
        time.sleep(0.2)
        tell(number, parent=parent)()
        time.sleep(5 if parent else 0)

    monkeypatch.setattr(signals, "ONE_REQUEST", 0.1)
    status, message = _run(tmp_path / "run", Fault(insist, "training", 1, 2))
    assert status == 130
    assert message.endswith("What was saved is sound: go on with --ckpt_path last.")
    _assert_goes_on(tmp_path / "run", uninterrupted)


def test_two_signals_at_once_are_one(tmp_path: Path, uninterrupted: Path) -> None:
    def hear_both() -> None:
        tell(signal.SIGINT)()
        tell(signal.SIGINT, parent=True)()

    assert _run(tmp_path / "run", Fault(hear_both, "training", 1, 2)) == (75, "")
    _assert_goes_on(tmp_path / "run", uninterrupted)


# --- processes that a cluster starts ---------------------------------------------------------------------------------


def _run_tasks(run_dir: Path, fault: Fault | None = None) -> tuple[list[int], list[str]]:
    """Run two tasks of a job, and return their statuses and what they said besides their progress."""
    ends = run_tasks(fault, functools.partial(run_small, run_dir))
    said = [line for _, errors in ends for line in complaints(errors)]
    return [status for status, _ in ends], said


def test_tasks_of_a_job_are_a_run(tmp_path: Path, uninterrupted: Path) -> None:
    assert _run_tasks(tmp_path / "run") == ([0, 0], [])
    _assert_goes_on(tmp_path / "run", uninterrupted)


def test_a_signal_to_a_task_stops_all(tmp_path: Path, uninterrupted: Path) -> None:
    assert _run_tasks(tmp_path / "run", Fault(tell(signal.SIGUSR1), "training", 1, 1)) == ([75, 75], [])
    assert _run_tasks(tmp_path / "run") == ([0, 0], [])
    _assert_goes_on(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("rank", [0, 1])
def test_one_task_speaks_for_all(tmp_path: Path, uninterrupted: Path, rank: int) -> None:
    fault = Fault(throw(ValueError("no")), "training", rank, 2, served=True)
    statuses, (message,) = _run_tasks(tmp_path / "run", fault)
    assert statuses == [1, 1]
    assert re.match(rf"aequa: error: rank {rank}, round 2, training of participant-0\d: ValueError: no\.", message)
    _assert_goes_on(tmp_path / "run", uninterrupted)


def test_a_task_that_is_gone_is_named_by_another(tmp_path: Path, uninterrupted: Path) -> None:
    statuses, (message,) = _run_tasks(tmp_path / "run", Fault(die, "training", 1, 2, served=True))
    assert statuses == [1, -signal.SIGKILL]
    assert "rank 0 lost contact with rank 1 in round 2, reduction" in message
    assert re.search(r"rank 1 was last seen in round 2, training of participant-0\d", message)
    _assert_goes_on(tmp_path / "run", uninterrupted)


# --- full disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a disk of its own cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(
    ("phase", "number", "file"),
    [
        ("training alone", None, r"standalone/participant-0\d.json"),
        ("record", 1, "(events.jsonl|metrics.csv)"),
        ("checkpoint", 1, "checkpoints/round-0001.ckpt"),
        ("checkpoint", 2, "checkpoints/round-0002.ckpt"),
        ("payout", None, r"rewards/participant-0\d.ckpt"),
    ],
)
def test_a_full_disk(small_disk: Path, uninterrupted: Path, phase: str, number: int | None, file: str) -> None:
    run_dir = small_disk / "run"
    status, message = _run(run_dir, Fault(fill(small_disk), phase, 0, number))
    assert status == 1
    where = f"round {number}, {phase}" if number else phase
    assert re.match(rf"aequa: error: rank \d, {where}.*: {run_dir}/{file} cannot be written: No space left", message)
    (small_disk / "filling").unlink()
    _assert_goes_on(run_dir, uninterrupted)


def test_a_disk_that_is_full_from_the_beginning(small_disk: Path, uninterrupted: Path) -> None:
    run_dir = small_disk / "run"
    run_dir.mkdir()
    fill(small_disk)()
    status, errors = run_with(None, functools.partial(run_small, run_dir))
    assert status == 1
    assert "Traceback" not in errors
    assert re.search(f"aequa: error: rank 0, set-up: {run_dir}/config.yaml cannot be written: No space left", errors)
    (small_disk / "filling").unlink()
    _assert_goes_on(run_dir, uninterrupted)


@pytest.mark.parametrize(
    ("phase", "number", "file"),
    [
        ("record", 2, "events.jsonl"),
        ("checkpoint", 1, "checkpoints/round-0001.ckpt"),
        ("payout", None, r"rewards/participant-0\d.ckpt"),
    ],
)
def test_a_quota(tmp_path: Path, uninterrupted: Path, phase: str, number: int | None, file: str) -> None:
    status, message = _run(tmp_path / "run", Fault(limit_files, phase, 0, number))
    assert status == 1
    assert re.search(rf"rank 0, .*{phase}: {tmp_path}/run/{file} cannot be written: File too large", message)
    _assert_goes_on(tmp_path / "run", uninterrupted)


# --- damaged files ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nearly_finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that died when all was trained and nothing paid."""
    run_dir = tmp_path_factory.mktemp("nearly_finished") / "run"
    assert _run(run_dir, Fault(die, "payout", 0))[0] == 1
    return run_dir


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()  # a hard link stays whole
    path.write_bytes(content[: len(content) // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


def _add_half_an_event(path: Path) -> None:
    path.write_text(path.read_text() + '{"event": "round"}\n')


def _empty(path: Path) -> None:
    path.unlink()
    path.touch()


DAMAGED = "round-0002.ckpt.* is damaged"


@pytest.mark.parametrize(
    ("file", "damage", "warning"),
    [
        ("checkpoints/round-0002.ckpt", _truncate, DAMAGED),
        ("checkpoints/round-0002.ckpt", _flip, DAMAGED),
        ("checkpoints/round-0002.ckpt", _empty, DAMAGED),
        ("checkpoints/round-0002.ckpt", Path.unlink, ""),
        ("checkpoints/last.ckpt", _flip, ""),
        ("checkpoints/last.ckpt", Path.unlink, ""),
        ("standalone/participant-01.json", _truncate, ""),
        ("standalone/participant-01.json", _empty, ""),
        ("processes/rank-1.json", _truncate, ""),
        ("checkpoints/round-0002.ckpt.sha256", _flip, DAMAGED),
        ("checkpoints/round-0002.ckpt.sha256", Path.unlink, ""),
        ("events.jsonl", _truncate, ""),
        ("events.jsonl", Path.unlink, ""),
        ("metrics.csv", _truncate, ""),
        ("config.yaml", _empty, ""),
    ],
)
def test_a_damaged_file(
    tmp_path: Path,
    uninterrupted: Path,
    nearly_finished: Path,
    file: str,
    warning: str,
    damage: Callable[[Path], None],
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(nearly_finished, run_dir)
    damage(run_dir / file)
    _assert_goes_on(run_dir, uninterrupted, warning=warning, record=file != "events.jsonl")


def test_half_an_event(tmp_path: Path, uninterrupted: Path, nearly_finished: Path) -> None:
    fault = r"Line \d+ of .*events.jsonl is an event 'round' without a proper 'round'"
    with pytest.warns(UserWarning, match=fault):  # the comparison reads the record, too
        test_a_damaged_file(tmp_path, uninterrupted, nearly_finished, "events.jsonl", fault, _add_half_an_event)


def test_nothing_is_left_to_go_on_from(tmp_path: Path, nearly_finished: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(nearly_finished, run_dir)
    record = (run_dir / "events.jsonl").read_bytes()
    for path in (run_dir / "checkpoints").glob("round-*.ckpt"):
        _truncate(path)
    status, errors = run_with(None, functools.partial(run_small, run_dir))
    assert status == 2
    assert "Every checkpoint" in errors.splitlines()[-1]
    assert (run_dir / "events.jsonl").read_bytes() == record


# --- bad updates -----------------------------------------------------------------------------------------------------


class Poisoned(DigitsData):
    """One participant's inputs are no numbers."""

    def participant(self, number: int) -> torch.utils.data.TensorDataset:
        inputs, targets = super().participant(number).tensors
        return torch.utils.data.TensorDataset(inputs * float("nan") if number == 1 else inputs, targets)


def test_a_poisoned_update_is_told_and_left_out_also_after_a_death(tmp_path: Path) -> None:
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    for folder, fault in ((whole, None), (run_dir, Fault(die, "reduction", 1, 2)), (run_dir, None)):
        status, errors = run_with(fault, functools.partial(run_small, folder, Poisoned))
        assert status == (0 if fault is None else 1), errors
        assert "the updates of participant-01 are not finite or exploded" in errors
    assert [event["rejected"] for event in events(run_dir, "round")] == [["participant-01"]] * 2
    parameters = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in parameters.values())
    assert largest_difference(run_dir, whole) == 0
    assert (run_dir / "allocation.json").read_bytes() == (whole / "allocation.json").read_bytes()
