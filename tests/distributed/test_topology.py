"""What the replicas of a group must agree upon, because each decides by it what to train next."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from aequa_lightning.collaboration.topology import Topology, build_fabric, launch


@pytest.mark.distributed
def test_replicas_share_the_times_of_the_first_and_the_mean_of_their_losses(tmp_path: Path) -> None:
    def work(fabric: Fabric) -> None:
        topology = Topology(fabric)
        # Group 0 (processes 0 and 1) reports of participant 0, group 1 of participant 1; no two measure the same time.
        seconds = torch.zeros(2)
        seconds[topology.group] = 1.0 + topology.rank
        mean = topology.mean_over_replicas(torch.tensor(float(topology.rank)))
        over_all = topology.mean_over_processes(float(topology.rank))
        torch.save((topology.share(seconds), mean, over_all), tmp_path / f"{topology.rank}.pt")

    fabric = build_fabric(
        accelerator="cpu",
        devices=4,
        num_nodes=1,
        precision="32-true",
        replicas=2,
        loggers=[],
        timeout=timedelta(minutes=1),
        run_dir=tmp_path,
    )
    launch(fabric, work, threads=1, run_dir=tmp_path)
    for rank, mean in enumerate((0.5, 0.5, 2.5, 2.5)):
        seconds, loss, over_all = torch.load(tmp_path / f"{rank}.pt")
        assert seconds.tolist() == [1.0, 3.0]
        assert loss.item() == mean
        assert over_all == 1.5
