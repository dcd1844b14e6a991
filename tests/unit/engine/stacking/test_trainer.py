"""A stack against the same participants trained one by one."""

import itertools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aequa_lightning.data.augmentation import CropAndFlip
from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.processes.topology import build_fabric
from aequa_lightning.engine.stacking import trainer
from aequa_lightning.engine.stacking.schedule import Job
from aequa_lightning.engine.stacking.trainer import StackedTrainer, form_stacks
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.slimmable import Distillation

# Unequal numbers of samples: of batches, and of samples in the last batch.
SAMPLES = (20, 33, 7, 48, 16)
SIXTEENTHS = tuple(count / 16 for count in range(16, 3, -1))


def half_frozen(num_classes: int, input_shape: tuple[int, ...]) -> torch.nn.Module:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    network[1].requires_grad_(False)
    return network


def local_trainer(
    tmp_path: Path,
    optimizer: Callable[[Any], torch.optim.Optimizer],
    augmentation: Any = None,
    precision: str = "32-true",
    **options: Any,
) -> LocalTrainer:
    torch.manual_seed(0)

    class Classifier(SlimmableClassifier):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])

    options = {"backbone": "mlp", "widths": (1.0, 0.5, 0.25)} | options
    fabric = build_fabric(
        accelerator="cpu",
        devices=1,
        num_nodes=1,
        precision=precision,
        replicas=1,
        loggers=[],
        timeout=timedelta(minutes=1),
        run_dir=tmp_path,
    )
    fabric.launch()
    return LocalTrainer(fabric, Classifier(10, (1, 8, 8), **options), batch_size=16, seed=3, augmentation=augmentation)


def jobs_for(local: LocalTrainer, work: LocalWork) -> tuple[Tensor, list[Job]]:
    generator = torch.Generator().manual_seed(1)
    size = len(local.parameters)
    start = local.parameters + 0.01 * torch.randn(len(SAMPLES), size, generator=generator)
    return start, [
        Job(
            torch.randn(count, 1, 8, 8, generator=generator),
            torch.randint(0, 10, (count,), generator=generator),
            work,
            ("round", 1, "participant", place),
        )
        for place, count in enumerate(SAMPLES)
    ]


def one_by_one(
    local: LocalTrainer, start: Tensor, jobs: list[Job], distillation: Distillation | None = None
) -> tuple[list[float], Tensor]:
    losses, updates = [], []
    for parameters, job in zip(start, jobs, strict=True):
        options = {"work": job.work, "keys": job.keys, "grid": local.classifier.network.widths}
        losses.append(local.train(parameters, (job.inputs, job.targets), **options, distillation=distillation))
        updates.append(local.parameters - parameters)
    return losses, torch.stack(updates)


@pytest.mark.parametrize(
    ("optimizer", "options", "work"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.05), {"backbone": "cnn3"}, LocalWork(epochs=2)),
        (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-2), {}, LocalWork(epochs=2)),
        (lambda p: torch.optim.Adam(p, lr=1e-3), {"widths": SIXTEENTHS, "distillation": 0.5}, LocalWork(steps=5)),
        (lambda p: torch.optim.SGD(p, lr=0.05), {"logit_adjustment": 1.5, "distillation": 0.5}, LocalWork(steps=3)),
        (lambda p: torch.optim.SGD(p, lr=0.05), {"augmentation": CropAndFlip(padding=1, flip=True)}, LocalWork()),
        (lambda p: torch.optim.SGD(p, lr=0.05), {"backbone": f"{__name__}:half_frozen"}, LocalWork(shuffle=False)),
        (
            lambda p: torch.optim.SGD(p, lr=0.05),
            {
                "widths": SIXTEENTHS,
                "reduction": "sum",
                "full_width_loss_weight": 0.5,
                "smallest_width_loss_weight": 0.3,
            },
            LocalWork(),
        ),
    ],
    ids=[
        "convolutions and batch norm",
        "momentum and decay",
        "random widths, distillation, Adam, equal steps",
        "each one's own class shares",
        "augmentation",
        "frozen layers, samples in order",
        "losses of unequal shares, summed",
    ],
)
def test_stacking_everybody_moves_as_it_does_alone(
    tmp_path: Path, optimizer: Any, options: dict[str, Any], work: LocalWork
) -> None:
    local = local_trainer(tmp_path, optimizer, **options)
    start, jobs = jobs_for(local, work)
    expected_losses, expected = one_by_one(local, start, jobs)
    before = local.parameters.clone()
    losses, updates = StackedTrainer(local).train(start, jobs, grid=local.classifier.network.widths)
    assert expected.abs().amax(1).min() > 1e-3
    torch.testing.assert_close(updates, expected, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(losses, expected_losses, atol=1e-5, rtol=1e-5)
    assert torch.equal(local.parameters, before)


def test_stacking_what_one_of_them_spoils_is_its_own(tmp_path: Path) -> None:
    local = local_trainer(tmp_path, lambda p: torch.optim.SGD(p, lr=0.05))
    start, jobs = jobs_for(local, LocalWork())
    stacked, grid = StackedTrainer(local), local.classifier.network.widths
    _, sound = stacked.train(start, jobs, grid=grid)
    jobs[1].inputs.fill_(torch.inf)
    losses, updates = stacked.train(start, jobs, grid=grid)
    others = [0, 2, 3, 4]
    assert torch.isnan(torch.tensor(losses)).tolist() == [place == 1 for place in range(5)]
    assert torch.equal(updates[others], sound[others])


def test_stacking_stack_trains_as_in_training_and_leaves_nothing_in_the_optimizer_of_the_process(
    tmp_path: Path,
) -> None:
    local = local_trainer(tmp_path, lambda p: torch.optim.Adam(p, lr=1e-3), backbone="cnn3")
    start, jobs = jobs_for(local, LocalWork(steps=2))
    # As an evaluation leaves it.
    local.classifier.eval()
    _, together = StackedTrainer(local).train(start, jobs, grid=local.classifier.network.widths)
    assert not local.optimizer.optimizer.state
    torch.testing.assert_close(together, one_by_one(local, start, jobs)[1], atol=1e-4, rtol=0)


def test_stacking_width_of_the_round_may_teach_the_wider_ones(tmp_path: Path) -> None:
    local = local_trainer(tmp_path, lambda p: torch.optim.SGD(p, lr=0.05))
    (start, jobs), grid = jobs_for(local, LocalWork()), local.classifier.network.widths
    distillation = Distillation(0.7, teacher=0.5)
    _, expected = one_by_one(local, start, jobs, distillation)
    stacked = StackedTrainer(local)
    torch.testing.assert_close(stacked.train(start, jobs, grid=grid, distillation=distillation)[1], expected)
    assert (stacked.train(start, jobs, grid=grid)[1] - expected).abs().max() > 1e-4


def test_stacking_learning_rate_is_the_present_one(tmp_path: Path) -> None:
    local = local_trainer(tmp_path, lambda p: torch.optim.SGD([{"params": list(p), "lr": 0.05}]))
    start, jobs = jobs_for(local, LocalWork())
    stacked = StackedTrainer(local)
    for group in local.optimizer.optimizer.param_groups:
        group["lr"] = 0.01
    _, expected = one_by_one(local, start, jobs)
    torch.testing.assert_close(stacked.train(start, jobs, grid=local.classifier.network.widths)[1], expected)


def test_stacking_stacks_hold_everybody_once_and_one_width_each() -> None:
    widths = [1.0, 0.5, 0.5, 1.0, 1.0, 0.25, 0.5, 1.0, 1.0]
    participants = list(range(10, 19))
    samples = [5, 9, 1, 5, 8, 2, 4, 7, 7]
    stacks = form_stacks(participants, widths, samples, 2)
    assert sorted(itertools.chain(*stacks)) == participants
    for stack in stacks:
        places = [participant - 10 for participant in stack]
        assert len({widths[place] for place in places}) == 1
        assert [samples[place] for place in places] == sorted((samples[place] for place in places), reverse=True)
        assert len(stack) <= 2


def convolutions(num_classes: int, input_shape: tuple[int, ...]) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.Flatten(),
        torch.nn.Linear(512, num_classes),
    )


def test_stacking_what_is_added_up_lies_alike_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out: set[tuple[int, bool]] = set()

    def add(value: Tensor, rows: Any, gradient: Tensor) -> None:
        own, other = (
            [step for step, size in zip(t.stride()[1:], t.shape[1:], strict=True) if size > 1]
            for t in (value, gradient)
        )
        laid_out.add((value.ndim, own == other))
        add_gradient(value, rows, gradient)

    add_gradient = trainer._add_gradient
    monkeypatch.setattr(trainer, "_add_gradient", add)
    local = local_trainer(
        tmp_path, lambda p: torch.optim.SGD(p, lr=0.05), backbone=f"{__name__}:convolutions", widths=(1.0,)
    )
    start, jobs = jobs_for(local, LocalWork(steps=1))
    StackedTrainer(local).train(start, jobs, grid=(1.0,))
    assert laid_out == {(2, True), (3, True), (5, True)}


def test_stacking_mixed_precision_is_near(tmp_path: Path) -> None:
    def moved(precision: str) -> tuple[Tensor, Tensor]:
        options = {"backbone": f"{__name__}:convolutions", "widths": (1.0, 0.5), "precision": precision}
        local = local_trainer(tmp_path, lambda p: torch.optim.SGD(p, lr=0.05), **options)
        start, jobs = jobs_for(local, LocalWork())
        _, together = StackedTrainer(local).train(start, jobs, grid=(1.0, 0.5))
        return together, one_by_one(local, start, jobs)[1]

    (exact, _), (together, alone) = moved("32-true"), moved("bf16-mixed")
    # As far from what float32 gives as participants alone are, and not equal to it.
    for updates in (together, alone):
        assert 1e-3 < torch.dist(updates, exact) / exact.norm() < 3e-2
    assert torch.dist(together, alone) / exact.norm() < 3e-2
