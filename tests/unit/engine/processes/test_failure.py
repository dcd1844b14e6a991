"""What is said about a failure, from the notes and exit statuses of all processes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL, SIGSEGV, SIGTERM, SIGUSR1

import numpy as np
import pytest
import torch
import torch.distributed as dist

from aequa_lightning.engine.processes import failure
from aequa_lightning.engine.processes.failure import RESUME, describe, diagnose, record_failure, report_once
from aequa_lightning.engine.processes.status import ProcessStatus, Status, claim_reporting
from aequa_lightning.errors import InputError, RunFailed

TRAINING = Status(1, "training", round=2, participant="hospital", batch_size=32)
TIMED_OUT = RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 3000ms for recv operation")
CLOSED = RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:42417")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Restore what a process ignores that is about to end."""
    before = {number: signal.getsignal(number) for number in (SIGTERM, SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _at(run_dir: Path, rank: int, phase: str, **changes: object) -> None:
    ProcessStatus(run_dir, rank).note(phase=phase, **changes)


def _allocate_too_much() -> None:
    torch.empty(10**15)


def _allocate_too_much_in_numpy() -> None:
    np.empty(10**15)


def _report_a_full_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")


@pytest.mark.parametrize("work", [_allocate_too_much, _allocate_too_much_in_numpy, _report_a_full_gpu])
def test_failure_out_of_memory_names_participant_batch_size_and_remedy(work: object) -> None:
    assert callable(work)
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        work()
    message = describe(caught.value, TRAINING, RESUME).message
    assert message.startswith("rank 1, round 2, training of hospital: out of memory with data.batch_size=32")
    assert "Lower data.batch_size" in message


def test_failure_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        Path("/dev/full").write_text("more")
    error = OSError(caught.value.errno, caught.value.strerror, str(tmp_path / "last.ckpt"))
    message = describe(error, Status(0, "checkpoint", round=2), RESUME).message
    assert f"{tmp_path}/last.ckpt cannot be written: No space left on device" in message


def test_failure_writes_its_traceback_to_a_file(tmp_path: Path) -> None:
    _at(tmp_path, 0, "reduction", round=2)
    _at(tmp_path, 1, "training", round=2, participant="hospital")
    record_failure(CLOSED, tmp_path, 0)
    try:
        raise ValueError("no\nmore")
    except ValueError as error:
        record_failure(error, tmp_path, 1)
    error = diagnose(tmp_path, {0: 1, 1: 1})
    assert isinstance(error, RunFailed)
    assert str(error).startswith("rank 1, round 2, training of hospital: ValueError: no. ")
    assert "--ckpt_path last" in str(error)
    assert str(tmp_path / "failure.log") in str(error)
    assert 'raise ValueError("no\\nmore")' in (tmp_path / "failure.log").read_text()
    assert "gloo" not in (tmp_path / "failure.log").read_text()


@pytest.mark.parametrize("said", ["a file named \udcff", "the gloo of the model"])
def test_failure_message_may_hold_any_characters(tmp_path: Path, said: str) -> None:
    _at(tmp_path, 0, "training", round=2)
    record_failure(RuntimeError(said), tmp_path, 0)
    assert str(diagnose(tmp_path, {0: 1})).startswith(f"rank 0, round 2, training: RuntimeError: {said}. ")
    assert "RuntimeError" in (tmp_path / "failure.log").read_text()


def test_failure_of_bad_input_keeps_its_message(tmp_path: Path) -> None:
    record_failure(InputError("data.batch_size=0"), tmp_path, 0)
    error = diagnose(tmp_path, {0: 2, 1: None})
    assert (type(error), str(error)) == (InputError, "data.batch_size=0")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-SIGKILL, "was killed by SIGKILL (a machine"),
        (-SIGSEGV, "was killed by SIGSEGV in"),
        (3, "ended with status 3"),
    ],
)
def test_failure_names_the_killed_process_whatever_the_others_saw(tmp_path: Path, status: int, words: str) -> None:
    _at(tmp_path, 0, "reduction", round=2)
    _at(tmp_path, 1, "training", round=2, participant="hospital")
    record_failure(CLOSED, tmp_path, 0)
    error = str(diagnose(tmp_path, {0: 1, 1: status}))
    assert error.startswith(f"rank 1 {words}")
    assert "round 2, training of hospital" in error


def test_failure_names_the_hanging_process(tmp_path: Path) -> None:
    for rank in (0, 2):
        _at(tmp_path, rank, "reduction", round=2)
    _at(tmp_path, 1, "training", round=2, participant="hospital")
    record_failure(TIMED_OUT, tmp_path, 0)
    error = str(diagnose(tmp_path, {0: 1, 1: None, 2: None}))
    assert error.startswith("rank 0 waited for rank 1 longer than trainer.timeout_minutes, in round 2, reduction")
    assert "rank 1 was last seen in round 2, training of hospital" in error


def test_failure_without_a_parent_is_reported_once(tmp_path: Path) -> None:
    _at(tmp_path, 1, "training", round=2, participant="hospital")
    told = "rank 1, round 2, training of hospital: ValueError: no"
    with pytest.raises(RunFailed, match=told), report_once(tmp_path, 1, several=True):
        raise ValueError("no")
    with pytest.raises(SystemExit) as caught, report_once(tmp_path, 0, several=True):
        raise dist.DistBackendError("connection closed")
    assert caught.value.code == 1


@pytest.mark.parametrize("error", [CLOSED, dist.DistBackendError("NCCL communicator was aborted on rank 1.")])
def test_failure_lost_contact_lets_the_failed_process_report_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    assert describe(error, TRAINING, RESUME).kind == "contact"
    # The other process reports in the meantime.
    monkeypatch.setattr(failure.time, "sleep", lambda seconds: claim_reporting(tmp_path))
    with pytest.raises(SystemExit), report_once(tmp_path, 0, several=True):
        raise error


@pytest.mark.parametrize("number", [SIGTERM, SIGUSR1])
def test_failure_lost_contact_is_reported_if_nobody_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def silenced(*_: object) -> None:
        raise AssertionError("the signal has ended the process")

    signal.signal(number, silenced)
    # While it waits, what started the processes ends them.
    monkeypatch.setattr(failure.time, "sleep", lambda seconds: os.kill(os.getpid(), number))
    with pytest.raises(RunFailed, match="rank 0 lost contact"), report_once(tmp_path, 0, several=True):
        raise CLOSED


def test_failure_leaves_the_signal_handlers_of_a_single_process(tmp_path: Path) -> None:
    before = signal.getsignal(SIGTERM)
    with pytest.raises(RunFailed), report_once(tmp_path, 0, several=False):
        raise ValueError("no")
    assert signal.getsignal(SIGTERM) == before


def test_failure_mentions_saved_rounds_only_if_there_are_any(tmp_path: Path) -> None:
    assert str(diagnose(tmp_path, {})).endswith("No round was saved: begin again with --ckpt_path last.")
    assert "No round was saved" in record_failure(ValueError("no"), tmp_path, 0).message
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "round-0001.ckpt").touch()
    assert "What was saved is sound: go on with" in record_failure(ValueError("no"), tmp_path, 0).message
