from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor

from aequa_lightning.data import DigitsData
from aequa_lightning.engine.callback import RoundResult
from aequa_lightning.engine.run import Run
from aequa_lightning.modules.classifier import SlimmableClassifier
from tests.helpers.run_config import small_config

NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of five participants in a single process, of which nothing has been trained."""
    data = DigitsData(participants=5, train_samples=300)
    data.names = NAMES
    torch.manual_seed(0)
    model = SlimmableClassifier(
        10, data.input_shape, backbone="mlp", backbone_options={"hidden": (8,)}, widths=[1.0, 0.5]
    )
    return Run(
        Fabric(accelerator="cpu", devices=1), model, data, config=small_config(tmp_path, max_rounds=3, standalone=False)
    )


@pytest.fixture
def honest(run: Run) -> Tensor:
    """Five updates that share a direction and differ otherwise, float32 of shape (5, P)."""
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(len(run.parameters), generator=generator)
    return 0.1 * (shared + torch.randn(5, len(run.parameters), generator=generator))


@pytest.fixture
def finish(run: Run) -> Callable[..., RoundResult]:
    """A function that averages updates as the engine does, moves the server and returns the round's result."""

    def finish(updates: Tensor, *, refused: Collection[int] = (), left_out: Collection[int] = ()) -> RoundResult:
        present = [index for index in range(len(updates)) if index not in {*refused, *left_out}]
        shares = run.config.aggregator.weights([run.samples[index] for index in range(len(updates))])
        weights = {index: shares[index] for index in present}
        coverage = run.masks.coverage(weights, run.widths)
        total = sum(weights[index] * updates[index].double() for index in present)
        mean_update = torch.where(coverage > 0, total / coverage, 0.0)
        run.server.step(mean_update, torch.tensor(1.0))
        run.progress.round += 1
        people = [{"name": name} for name in run.data.names]
        record = {"participants": people, "rejected": [run.data.names[index] for index in refused]}
        sent = {index: updates[index] for index in range(len(updates)) if index not in refused}
        return RoundResult(run.round, sent, weights, coverage, mean_update, {1.0: 0.5}, record)

    return finish
