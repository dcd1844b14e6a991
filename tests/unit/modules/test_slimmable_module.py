from contextlib import nullcontext
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.regression import ExplainedVariance

from aequa_lightning.errors import InputError
from aequa_lightning.modules import SlimmableModule
from aequa_lightning.modules.score import WholeScore

OPTIONS: dict[str, Any] = {"backbone": "mlp", "widths": (1.0, 0.5)}
INPUTS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS[:, :2] ** 2


class Squares(SlimmableModule):
    """Learns the squares of the first inputs."""

    score_name = "closeness"

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        return (outputs - batch[1]).square().mean()

    def score(self, outputs: Tensor, batch: Any) -> Tensor:
        return (-(outputs - batch[1]).square().mean(1)).exp()


def test_a_module_with_a_loss_and_a_score_follows_the_gradient_of_both_widths() -> None:
    module = Squares(2, (4,), **OPTIONS)
    losses = [module.loss(module(INPUTS, width=width), (INPUTS, TARGETS)) for width in (1.0, 0.5)]
    expected = torch.autograd.grad(sum(losses) / 2, list(module.parameters()))
    module.sandwich((INPUTS, TARGETS), step=0, forward=module, backward=Tensor.backward, no_sync=nullcontext)
    for parameter, gradient in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_lightning_trains_it_and_logs_the_score_of_each_width_over_all_batches() -> None:
    module = Squares(2, (4,), **OPTIONS)
    loader = DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=5)
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "log_every_n_steps": 1,
    }
    trainer = Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet)
    trainer.fit(module, loader, loader)
    (found,) = trainer.validate(module, loader, verbose=False)
    for width in (1.0, 0.5):
        expected = module.score(module(INPUTS, width=width), (INPUTS, TARGETS)).mean().item()
        assert found[f"validation_closeness/{width:g}"] == pytest.approx(expected)


def test_a_metric_of_torchmetrics_is_a_score() -> None:
    class Explained(SlimmableModule):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.score = ExplainedVariance()

        def loss(self, outputs: Tensor, batch: Any) -> Tensor:
            return (outputs - batch[1]).square().mean()

    module = Explained(2, (4,), **OPTIONS)
    assert isinstance(module.scorer, WholeScore)
    assert module.scorer.measure([(TARGETS, (INPUTS, TARGETS))]).value == pytest.approx(1)


def test_a_module_without_score_or_loss_says_so() -> None:
    module = SlimmableModule(2, (4,), **OPTIONS)
    with pytest.raises(InputError, match="SlimmableModule has no score; define score"):
        _ = module.scorer
    with pytest.raises(InputError, match="SlimmableModule has no loss; define loss"):
        module.loss(INPUTS, (INPUTS, TARGETS))
