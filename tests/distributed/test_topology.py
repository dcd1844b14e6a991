"""What the replicas of a group must agree upon, because each decides by it what to train next."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.processes.topology import Topology, build_fabric, launch
from aequa_lightning.errors import RunFailed
from aequa_lightning.modules.classifier import SlimmableClassifier

pytestmark = pytest.mark.distributed


def _launch(
    work: Callable[[Fabric], None], run_dir: Path, *, processes: int = 4, timeout: timedelta = timedelta(minutes=1)
) -> None:
    """Do some work in groups of two replicas."""
    fabric = build_fabric(
        accelerator="cpu",
        devices=processes,
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
        torch.save((topology.merge(seconds), mean, over_all), tmp_path / f"{topology.rank}.pt")

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


def test_replicas_share_batches_that_do_not_divide_and_draw_random_numbers_of_their_own(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(7, 5, generator=generator), torch.arange(7) % 3

    def work(fabric: Fabric, name: str = "alone") -> None:
        draws: list[torch.Tensor] = []

        def draw(samples: torch.Tensor) -> torch.Tensor:
            draws.append(torch.rand(1))
            return samples

        torch.manual_seed(0)
        options = {"backbone": "mlp", "backbone_options": {"hidden": (4,)}, "widths": (1.0, 0.5)}
        classifier = SlimmableClassifier(3, (5,), **options)
        classifier.configure_optimizers = lambda: torch.optim.SGD(classifier.parameters(), lr=0.1)
        local = LocalTrainer(fabric, classifier, batch_size=5, seed=0, augmentation=draw)
        # Batches of five and two; then a single sample, of which one replica has nothing.
        options = {"work": LocalWork(epochs=2), "grid": (1.0, 0.5)}
        losses = [local.train(local.parameters, (inputs[:n], targets[:n]), keys=("test", n), **options) for n in (7, 1)]
        torch.save((losses, local.parameters.clone(), torch.cat(draws)), tmp_path / f"{name}.pt")

    _launch(lambda fabric: work(fabric, str(fabric.global_rank)), tmp_path, processes=2)
    work(Fabric(accelerator="cpu", devices=1))
    losses, parameters, draws = torch.load(tmp_path / "alone.pt")
    for rank in range(2):
        its_losses, its_parameters, its_draws = torch.load(tmp_path / f"{rank}.pt")
        assert its_losses == pytest.approx(losses, abs=1e-5)
        torch.testing.assert_close(its_parameters, parameters, atol=1e-5, rtol=0)
        assert torch.equal(its_draws, draws) == (rank == 0)
