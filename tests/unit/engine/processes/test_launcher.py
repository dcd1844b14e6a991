"""Processes end together, whatever ends one of them."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy

from aequa_lightning.engine.processes import launcher
from aequa_lightning.engine.processes.machine import own_cores
from aequa_lightning.engine.processes.status import ProcessStatus, claim_reporting, read_statuses
from aequa_lightning.engine.processes.topology import build_fabric, launch
from aequa_lightning.errors import InputError, RunFailed, RunInterrupted

pytestmark = pytest.mark.distributed


def _launch(work: Callable[[Fabric], object], run_dir: Path, threads: int = 1) -> object:
    fabric = build_fabric(
        accelerator="cpu",
        devices=2,
        num_nodes=1,
        precision="32-true",
        replicas=1,
        loggers=[],
        timeout=timedelta(minutes=1),
        run_dir=run_dir,
    )
    return launch(fabric, work, threads=threads, run_dir=run_dir)


def test_launcher_returns_the_value_of_rank_zero(tmp_path: Path) -> None:
    before = dict(os.environ)
    assert _launch(lambda fabric: {"rank": fabric.global_rank, "of": fabric.world_size}, tmp_path) == {
        "rank": 0,
        "of": 2,
    }
    assert not list(tmp_path.iterdir())
    # The port of this run is not that of another one.
    assert os.environ.get("MASTER_PORT") == before.get("MASTER_PORT")


@pytest.mark.timeout(60)
def test_launcher_forked_processes_wait_for_no_threads_of_the_parent(tmp_path: Path) -> None:
    numbers = torch.ones(1_000_000)
    torch.set_num_threads(2)
    try:
        before = numbers.exp()
        assert _launch(lambda fabric: float(numbers.exp().sum()), tmp_path, threads=2) == float(before.sum())
        assert torch.equal(numbers.exp(), before)
    finally:
        torch.set_num_threads(1)
        # Tests that fork this process are no better off than commands.
        launcher.end_idle_threads()


def test_launcher_removes_statuses_of_an_earlier_session(tmp_path: Path) -> None:
    ProcessStatus(tmp_path, 1).note(phase="reduction", failure={"kind": "fault", "message": "old", "time": 0.0})
    assert claim_reporting(tmp_path)
    assert _launch(lambda fabric: sorted(read_statuses(tmp_path)), tmp_path) == []


def test_launcher_refuses_to_fork_a_process_that_has_used_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(InputError, match="this process has used CUDA"):
        _launch(lambda fabric: None, tmp_path)


def test_launcher_names_processes_by_their_global_rank(tmp_path: Path) -> None:
    strategy = cast(DDPStrategy, SimpleNamespace(node_rank=2, num_processes=4))
    assert [launcher.ForkLauncher(strategy, tmp_path)._rank(place) for place in (0, 3)] == [8, 11]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell of a parent's death")
def test_launcher_child_ends_if_its_parent_has_ended() -> None:
    child = multiprocessing.get_context("fork").Process(target=launcher.end_with_parent, args=(os.getpid() + 1,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not say on which cores")
def test_cores_are_divided_if_processes_use_all_of_them(tmp_path: Path) -> None:
    two = sorted(os.sched_getaffinity(0))[:2]
    if len(two) < 2:
        pytest.skip("there is but one core")
    before = os.sched_getaffinity(0)

    def cores(fabric: Fabric) -> list[int]:
        table = torch.zeros(2, dtype=torch.int64)
        (table[fabric.global_rank],) = os.sched_getaffinity(0)
        # The threads of the process group lie there too; one may just have ended.
        for task in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):
                assert os.sched_getaffinity(int(task.name)) == {int(table[fabric.global_rank])}
        torch.distributed.all_reduce(table)
        return list(table.tolist())

    try:
        os.sched_setaffinity(0, two)
        assert _launch(cores, tmp_path) == two
        os.sched_setaffinity(0, two[:1])
        # Nothing to divide: both may use the one core.
        assert _launch(lambda fabric: sorted(os.sched_getaffinity(0)), tmp_path) == two[:1]
    finally:
        os.sched_setaffinity(0, before)


def test_cores_are_not_shared_by_processes_of_several_threads() -> None:
    cores = [own_cores(range(10, 16), place, processes=2, threads=3) for place in range(2)]
    assert cores == [{10, 11, 12}, {13, 14, 15}]


def test_launcher_kills_a_process_that_does_not_end_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "GRACE", 0.2)

    def work(fabric: Fabric) -> None:
        if fabric.global_rank == 1:
            raise ValueError("no")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    began = time.monotonic()
    with pytest.raises(RunFailed, match="rank 1, set-up: ValueError: no"):
        _launch(work, tmp_path)
    assert time.monotonic() - began < 30


@pytest.mark.timeout(60)
@pytest.mark.parametrize("status", [0, 3])
def test_launcher_reports_work_that_exits_early(tmp_path: Path, status: int) -> None:
    with pytest.raises(RunFailed, match=f"rank [01], set-up: SystemExit: {status}"):
        _launch(lambda fabric: sys.exit(status), tmp_path)


def test_launcher_signal_before_the_handlers_is_a_stop(tmp_path: Path) -> None:
    def work(fabric: Fabric) -> None:
        if fabric.global_rank == 1:
            os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)

    with pytest.raises(RunInterrupted):
        _launch(work, tmp_path)
