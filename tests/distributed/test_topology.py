"""What the replicas of a group must agree upon, because each decides by it what to train next."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from aequa_lightning.collaboration.topology import Topology, build_fabric, launch
from aequa_lightning.errors import RunFailed

pytestmark = pytest.mark.distributed


def _launch(work: Callable[[Fabric], None], run_dir: Path, *, timeout: timedelta = timedelta(minutes=1)) -> None:
    """Do some work in two groups of two replicas."""
    fabric = build_fabric(
        accelerator="cpu",
        devices=4,
        num_nodes=1,
        precision="32-true",
        replicas=2,
        loggers=[],
        timeout=timeout,
        run_dir=run_dir,
    )
    launch(fabric, work, threads=1, run_dir=run_dir)


def test_replicas_share_the_times_of_the_first_and_the_mean_of_their_losses(tmp_path: Path) -> None:
    def work(fabric: Fabric) -> None:
        topology = Topology(fabric)
        # Group 0 (processes 0 and 1) reports of participant 0, group 1 of participant 1; no two measure the same time.
        seconds = torch.zeros(2)
        seconds[topology.group] = 1.0 + topology.rank
        mean = topology.mean_over_replicas(torch.tensor(float(topology.rank)))
        over_all = topology.mean_over_processes(float(topology.rank))
        torch.save((topology.share(seconds), mean, over_all), tmp_path / f"{topology.rank}.pt")

    _launch(work, tmp_path)
    for rank, mean in enumerate((0.5, 0.5, 2.5, 2.5)):
        seconds, loss, over_all = torch.load(tmp_path / f"{rank}.pt")
        assert seconds.tolist() == [1.0, 3.0]
        assert loss.item() == mean
        assert over_all == 1.5


@pytest.mark.timeout(40)
@pytest.mark.parametrize("exchange", ["sum_over_groups", "mean_over_replicas"])
def test_nobody_waits_longer_than_was_said(tmp_path: Path, exchange: str) -> None:
    def work(fabric: Fabric) -> None:
        topology = Topology(fabric)
        if topology.rank == 3:
            time.sleep(60)
        getattr(topology, exchange)(torch.ones(1))

    with pytest.raises(RunFailed, match="waited for another process longer than"):
        _launch(work, tmp_path, timeout=timedelta(seconds=2))
