"""Processes end together, whatever ends one of them."""

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from lightning.fabric import Fabric

from aequa_lightning.collaboration import forking
from aequa_lightning.collaboration.topology import build_fabric, launch
from aequa_lightning.errors import RunFailed, RunInterrupted

pytestmark = pytest.mark.distributed


def _launch(work: Callable[[Fabric], object], run_dir: Path) -> object:
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
    return launch(fabric, work, threads=1, run_dir=run_dir)


def test_the_first_rank_returns(tmp_path: Path) -> None:
    assert _launch(lambda fabric: {"rank": fabric.global_rank, "of": fabric.world_size}, tmp_path) == {
        "rank": 0,
        "of": 2,
    }
    assert not list(tmp_path.iterdir())


def test_one_that_does_not_listen_is_ended_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "GRACE", 0.2)

    def work(fabric: Fabric) -> None:
        if fabric.global_rank == 1:
            raise ValueError("no")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    began = time.monotonic()
    with pytest.raises(RunFailed, match="rank 1, set-up: ValueError: no"):
        _launch(work, tmp_path)
    assert time.monotonic() - began < 30


def test_a_signal_before_anybody_listens_is_a_stop(tmp_path: Path) -> None:
    def work(fabric: Fabric) -> None:
        if fabric.global_rank == 1:
            os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)

    with pytest.raises(RunInterrupted):
        _launch(work, tmp_path)
