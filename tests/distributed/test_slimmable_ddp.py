"""Two processes, each with half a batch, have the mean of the halves' gradients, whatever the norm."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from aequa_lightning.slimmable import SlimmableModel, sandwich_step

NORMS = {
    "group": lambda: nn.GroupNorm(4, 8),
    "none": nn.Identity,
    "batch": lambda: nn.BatchNorm2d(8),
    "static": lambda: nn.BatchNorm2d(8, track_running_stats=False),
    "private": lambda: nn.BatchNorm2d(8),
}


def build(norm: str) -> SlimmableModel:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), NORMS[norm](), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)
    )  # fmt: skip
    affine = "private" if norm == "private" else "shared"
    return SlimmableModel(net, [1, 0.75, 0.5, 0.25], torch.zeros(1, 3, 8, 8), affine=affine)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 8, 8, generator=generator), torch.arange(8) % 4


def work(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    inputs, targets = data()
    for norm in NORMS:
        model = build(norm)
        # No width uses the affine parameters that are private to another.
        wrapped = DistributedDataParallel(model, find_unused_parameters=norm == "private")
        for _ in range(2):  # the second step finds out whether the first one left the reducer in order
            model.zero_grad()
            sandwich_step(wrapped, inputs[rank::2], targets[rank::2], model.widths, no_sync=wrapped.no_sync)
        torch.save([parameter.grad for parameter in model.parameters()], Path(folder) / f"{norm}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder where both processes have left their gradients."""
    folder = tmp_path_factory.mktemp("ddp")
    start_processes(work, args=(str(folder),), nprocs=2, start_method="fork")
    return folder


@pytest.mark.distributed
@pytest.mark.parametrize("norm", NORMS)
def test_gradients_equal_those_of_one_process(norm: str, gradients: Path) -> None:
    model = build(norm)
    inputs, targets = data()
    for half in range(2):
        sandwich_step(
            model, inputs[half::2], targets[half::2], model.widths, backward=lambda loss: (loss / 2).backward()
        )
    for rank in range(2):
        for parameter, gradient in zip(model.parameters(), torch.load(gradients / f"{norm}-{rank}.pt"), strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-6, atol=1e-6)
