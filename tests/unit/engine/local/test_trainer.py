import random
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from torch.utils.data import TensorDataset

from aequa_lightning.engine.evaluation import AtWidth, score_of
from aequa_lightning.engine.local.corrections import Scaffold
from aequa_lightning.engine.local.trainer import FlatParameters, LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.slimmable import SlimmableModel
from aequa_lightning.trainer.compatibility import check_model


def test_local_trainer_parameters_are_views_of_one_vector() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    before = [parameter.clone() for parameter in module.parameters()]
    flat = FlatParameters(module).vector
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    flat.zero_()
    assert all((parameter == 0).all() for parameter in module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    torch.optim.SGD(module.parameters(), lr=1.0).step()
    assert flat.abs().sum() > 0


def test_local_trainer_options_hold_within_the_block() -> None:
    classifier = SlimmableClassifier(3, (5,), backbone="mlp", backbone_options={"hidden": [4]}, widths=(1.0,))
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    classifier.configure_optimizers = lambda: ([optimizer], [scheduler])
    trainer = LocalTrainer(Fabric(accelerator="cpu", devices=1), classifier, batch_size=2, seed=0)
    optimizer.step()
    scheduler.step()
    with trainer.with_options([{**optimizer.param_groups[0], "lr": 0.3}]):
        assert optimizer.param_groups[0]["lr"] == 0.3
    assert optimizer.param_groups[0]["lr"] == 0.2


@pytest.mark.parametrize("fused", [True, False])
def test_local_trainer_puts_optimizer_state_on_the_device_where_torch_keeps_it(fused: bool) -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    kept = {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}
    trainer = SimpleNamespace(
        optimizer=SimpleNamespace(optimizer=torch.optim.Adam([weight], fused=fused)),
        fabric=SimpleNamespace(device=torch.device("meta")),
        _trainable=[weight],
    )
    LocalTrainer._load_optimizer_state(cast(LocalTrainer, trainer), kept)
    state = trainer.optimizer.optimizer.state[weight]
    assert (state["step"].device.type, state["exp_avg"].device.type) == ("meta" if fused else "cpu", "meta")


def test_local_trainer_resets_the_loss_scale_for_each_participant() -> None:
    torch.manual_seed(0)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    classifier = SlimmableClassifier(3, (5,), backbone="mlp", backbone_options={"hidden": [4]}, widths=(1.0, 0.5))
    trainer = LocalTrainer(fabric, classifier, batch_size=2, seed=0)
    inputs, targets, start = torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2]), trainer.parameters.clone()

    def reached() -> torch.Tensor:
        trainer.train(start, (inputs, targets), work=LocalWork(), keys=("participant", 1), grid=(1.0, 0.5))
        return trainer.parameters.clone()

    first = reached()
    assert scaler.get_scale() == 4 * 2**3
    assert not torch.equal(first, start)
    # Another participant's gradients overflow, and no step of it counts.
    overflowing = (inputs * torch.inf, targets)
    trainer.train(start, overflowing, work=LocalWork(), keys=("participant", 0), grid=(1.0, 0.5))
    assert scaler.get_scale() < 4
    assert torch.equal(trainer.parameters, start)
    assert torch.equal(reached(), first)
    assert scaler.get_scale() == 4 * 2**3


def test_local_trainer_skipped_step_changes_no_control_variate() -> None:
    torch.manual_seed(0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, growth_interval=1000)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    classifier = SlimmableClassifier(3, (5,), backbone="mlp", backbone_options={"hidden": [4]}, widths=(1.0, 0.5))
    trainer = LocalTrainer(fabric, classifier, batch_size=2, seed=0)
    corrector, start = Scaffold().build(trainer.parameters, 2), trainer.parameters.clone()
    corrector.start(start, None)
    samples, work = (torch.randn(4, 5), torch.tensor([0, 1, 2, 0])), LocalWork(epochs=60)
    trainer.train(start, samples, work=work, keys=("participant", 0), grid=(1.0, 0.5), correction=corrector)
    variate = corrector.finish()
    assert not torch.equal(trainer.parameters, start)
    assert variate is not None
    assert variate.isfinite().all()
    assert variate.abs().max() > 0


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda parameters: torch.optim.SGD(parameters, lr=-1.0), "optimizer or lr_scheduler: .*learning rate: -1"),
        (torch.optim.LBFGS, "LBFGS computes the loss"),
    ],
)
def test_local_trainer_refuses_unsupported_optimizers(optimizer: Any, message: str) -> None:
    classifier = SlimmableClassifier(3, (5,), backbone="mlp", backbone_options={"hidden": [4]}, widths=(1.0,))
    classifier.configure_optimizers = lambda: optimizer(classifier.parameters())
    with pytest.raises(InputError, match=message):
        LocalTrainer(Fabric(accelerator="cpu", devices=1), classifier, batch_size=2, seed=0)


class Noisy(torch.nn.Module):
    """Draws from each of the generators in turn."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return inputs
        return inputs * random.random() * float(np.random.rand()) + torch.rand(inputs.shape)


def noisy(num_classes: int, input_shape: tuple[int, ...]) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(*input_shape, 8), Noisy(), torch.nn.Linear(8, num_classes))


def test_local_trainer_random_numbers_do_not_depend_on_earlier_draws() -> None:
    torch.manual_seed(0)
    classifier = SlimmableClassifier(3, (5,), backbone=f"{__name__}:noisy", widths=(1.0, 0.5))
    trainer = LocalTrainer(Fabric(accelerator="cpu", devices=1), classifier, batch_size=2, seed=0)
    samples, start = (torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])), trainer.parameters.clone()

    def reached(participant: int) -> torch.Tensor:
        trainer.train(start, samples, work=LocalWork(), keys=("participant", participant), grid=(1.0, 0.5))
        return trainer.parameters.clone()

    first, other = reached(1), reached(2)
    assert torch.equal(reached(1), first)
    assert not torch.equal(first, other)


def resting(num_classes: int, input_shape: tuple[int, ...]) -> torch.nn.Module:
    """Return a network of which the builder leaves one of two dropouts in evaluation mode."""
    layers = [torch.nn.Linear(*input_shape, 8), torch.nn.Dropout(0.5).eval(), torch.nn.Dropout(0.5)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(8, num_classes))


def test_local_trainer_keeps_the_modes_set_by_the_builder() -> None:
    classifier = SlimmableClassifier(3, (5,), backbone=f"{__name__}:resting", widths=(1.0, 0.5))
    trainer = LocalTrainer(Fabric(accelerator="cpu", devices=1), classifier, batch_size=2, seed=0)
    seen: set[tuple[bool, ...]] = set()
    full = classifier.network.full
    full[3].register_forward_pre_hook(lambda *_: seen.add(tuple(part.training for part in full)))
    inputs, targets = torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    part = TensorDataset(inputs, targets)
    score_of(classifier, AtWidth(classifier.network, 1.0), part, device=torch.device("cpu"))
    assert seen == {(False, False, False, False)}
    classifier.eval()  # as a callback might
    seen.clear()
    trainer.train(trainer.parameters.clone(), (inputs, targets), work=LocalWork(), keys=(0,), grid=(1.0, 0.5))
    assert seen == {(True, False, True, True)}


def test_model_in_evaluation_mode_gives_a_warning_and_frozen_norms_are_refused() -> None:
    classifier = SlimmableClassifier(3, (5,), backbone=f"{__name__}:resting", widths=(1.0, 0.5))
    with pytest.warns(UserWarning, match=r"model\.backbone: 1 in evaluation mode"):
        check_model(classifier)
    normed = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8).eval(), torch.nn.Linear(8, 3))
    with pytest.raises(InputError, match="norm layer '1' is in evaluation mode"):
        SlimmableModel(normed, [1, 0.5], torch.zeros(1, 5))
    classifier.network = SlimmableModel(normed.eval(), [1, 0.5], torch.zeros(1, 5))
    with pytest.raises(InputError, match="norm layer '1' is in evaluation mode"):
        check_model(classifier)
