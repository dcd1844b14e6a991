"""A LightningModule of plain Lightning made slimmable."""

from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from aequa_lightning import CollaborativeTrainer
from aequa_lightning.data import DigitsData
from aequa_lightning.errors import InputError
from aequa_lightning.modules import SlimmableClassifier, slimmable


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


class Plain(LightningModule):
    """Written for plain Lightning."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        loss = functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, prog_bar=True)
        return {"loss": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def right(outputs: Tensor, batch: Any) -> Tensor:
    return outputs.argmax(-1) == batch[1]


def adapted(module: LightningModule | None = None, **options: Any) -> Any:
    given = {"network": "net", "example_input": torch.zeros(1, 1, 8, 8), "score": right, "widths": [1.0, 0.5, 0.25]}
    return slimmable(module or Plain(), **given | options)


def fit(model: Any, run_dir: str, **options: Any) -> Tensor:
    """Train three participants, and return the final parameters."""
    data = DigitsData(participants=3, train_samples=200, batch_size=32)
    trainer = CollaborativeTrainer(
        accelerator="cpu", max_rounds=2, run_dir=run_dir, report=False, export_programs=False, **options
    )
    trainer.fit(model, data)
    state = torch.load(f"{run_dir}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return torch.cat([value.reshape(-1) for name, value in sorted(state.items()) if name.startswith("network.full")])


def test_its_own_step_trains_as_the_same_loss_of_a_slimmable_module() -> None:
    torch.manual_seed(0)
    known = SlimmableClassifier(10, (1, 8, 8), backbone=network(), widths=[1.0, 0.5, 0.25])
    known.configure_optimizers = lambda: torch.optim.Adam(known.parameters(), lr=0.01)
    expected = fit(known, "known", devices=1)
    assert torch.equal(fit(adapted(), "adapted", devices=1), expected)
    # Forked processes have the same bits.
    assert torch.equal(fit(adapted(), "two", devices=2), expected)


def test_a_reward_is_the_narrow_network_alone() -> None:
    fit(adapted(), "run", devices=1)
    reward = torch.load("run/rewards/participant-00.ckpt", weights_only=True)
    assert set(reward["state_dict"]) == {f"network.{name}" for name in network().state_dict()}


def test_lightnings_trainer_trains_it_too() -> None:
    model = adapted()
    before = model.network.full[1].weight.clone()
    samples = TensorDataset(torch.randn(64, 1, 8, 8), torch.randint(0, 10, (64,)))
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(model, DataLoader(samples, batch_size=16), DataLoader(samples, batch_size=16))
    assert not torch.equal(model.network.full[1].weight, before)
    assert {"validation_score/1", "validation_score/0.25"} <= set(trainer.callback_metrics)


class ByHand(Plain):
    """Optimises by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class TwoOptimizers(Plain):
    """As of a GAN."""

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(self.parameters()), torch.optim.Adam(self.parameters())]


class ExtraWeight(Plain):
    """Trains something outside of its network."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


class WithoutStep(LightningModule):
    """Has no training step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (ByHand, {}, "optimises by hand"),
        (TwoOptimizers, {}, "has 2 optimizers"),
        (ExtraWeight, {}, "trains scale outside of 'net'"),
        (WithoutStep, {}, "has no training_step"),
        (Plain, {"network": "backbone"}, "no network called 'backbone'; its modules are net"),
    ],
)
def test_what_cannot_be_adapted_is_refused(
    module: type[LightningModule], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        adapted(module(), **options)


def test_distillation_has_no_outputs_to_compare() -> None:
    from aequa_lightning.mechanisms import AequaTraining

    with pytest.raises(InputError, match=r"distillation=0\.5: outputs of AdaptedModule"):
        fit(adapted(), "run", devices=1, mechanism=AequaTraining())
