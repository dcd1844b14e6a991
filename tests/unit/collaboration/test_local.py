from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision

from aequa_lightning.collaboration.corrections import Scaffold
from aequa_lightning.collaboration.local import FlatParameters, LocalTrainer
from aequa_lightning.collaboration.local_work import LocalWork
from aequa_lightning.errors import InputError
from aequa_lightning.training import SlimmableClassifier


def test_parameters_are_views_of_one_vector() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    before = [parameter.clone() for parameter in module.parameters()]
    flat = FlatParameters(module).vector
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    flat.zero_()
    assert all((parameter == 0).all() for parameter in module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    torch.optim.SGD(module.parameters(), lr=1.0).step()
    assert flat.abs().sum() > 0


def test_other_options_hold_for_as_long_as_they_are_asked_for() -> None:
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
def test_a_kept_optimizer_state_returns_to_where_the_optimizer_wants_it(fused: bool) -> None:
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


def test_a_loss_scale_is_not_passed_on_to_the_next_participant() -> None:
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


def test_a_step_that_is_left_out_moves_no_control_variate() -> None:
    torch.manual_seed(0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, growth_interval=1000)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))
    classifier = SlimmableClassifier(3, (5,), backbone="mlp", backbone_options={"hidden": [4]}, widths=(1.0, 0.5))
    trainer = LocalTrainer(fabric, classifier, batch_size=2, seed=0)
    corrector, start = Scaffold().build(trainer.parameters, 2), trainer.parameters.clone()
    corrector.begin(start, None)
    samples, work = (torch.randn(4, 5), torch.tensor([0, 1, 2, 0])), LocalWork(epochs=60)
    trainer.train(start, samples, work=work, keys=("participant", 0), grid=(1.0, 0.5), correction=corrector)
    variate = corrector.end()
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
def test_an_optimizer_that_cannot_train_is_refused(optimizer: Any, message: str) -> None:
    classifier = SlimmableClassifier(3, (5,), backbone="mlp", backbone_options={"hidden": [4]}, widths=(1.0,))
    classifier.configure_optimizers = lambda: optimizer(classifier.parameters())
    with pytest.raises(InputError, match=message):
        LocalTrainer(Fabric(accelerator="cpu", devices=1), classifier, batch_size=2, seed=0)
