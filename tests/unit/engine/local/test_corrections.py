"""Corrections against gradients that autograd takes of the corrected loss."""

import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision

from aequa_lightning.engine.local.corrections import FedProx, Scaffold
from aequa_lightning.engine.local.trainer import FlatParameters, LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import SlimmableClassifier


@pytest.fixture
def module() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))


def gradients(module: torch.nn.Module, loss: torch.Tensor) -> torch.Tensor:
    module.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.reshape(-1) for parameter in module.parameters()])


def test_fedprox_adds_the_gradient_of_the_proximal_term(module: torch.nn.Module) -> None:
    flat, inputs = FlatParameters(module).vector, torch.randn(5, 3)
    received = flat + torch.randn_like(flat)
    distance = sum(
        ((parameter - part.view(parameter.shape)) ** 2).sum()
        for parameter, part in zip(
            module.parameters(), received.split([p.numel() for p in module.parameters()]), strict=True
        )
    )
    expected = gradients(module, module(inputs).sum() + 0.3 / 2 * distance)
    gradients(module, module(inputs).sum())
    corrector = FedProx(mu=0.3).build(flat, 1)
    corrector.start(received, None)
    corrector(list(module.parameters()))
    corrected = torch.cat([parameter.grad.reshape(-1) for parameter in module.parameters()])
    torch.testing.assert_close(corrected, expected)


def test_correction_skips_a_parameter_without_a_gradient(module: torch.nn.Module) -> None:
    flat = FlatParameters(module).vector
    for correction in (FedProx(), Scaffold()):
        module.zero_grad(set_to_none=True)
        module[1](torch.ones(1, 2)).sum().backward()
        corrector = correction.build(flat, 1)
        corrector.start(flat + 1, None)
        corrector(list(module.parameters()))
        assert module[0].weight.grad is None


def test_scaffold_server_variate_is_the_mean_of_all_participants_variates(module: torch.nn.Module) -> None:
    flat, topology = FlatParameters(module).vector, Topology(Fabric(accelerator="cpu", devices=1))
    corrector = Scaffold().build(flat, 4)
    kept: dict[int, torch.Tensor] = {}
    for present in ([0, 1], [1, 2], [0, 2]):
        for index in present:
            corrector.start(flat, kept.get(index))
            for _ in range(3):
                gradients(module, (index + 1) * module(torch.randn(5, 3)).square().sum())
                corrector(list(module.parameters()))
            kept[index] = corrector.finish().clone()
            corrector.commit()
        corrector.end_round(topology)
        mean = sum(kept.values()) / 4
        torch.testing.assert_close(corrector.state_dict()["server"], mean)


def test_fedprox_of_weight_zero_is_refused() -> None:
    with pytest.raises(InputError, match=r"trainer\.correction\.mu=0"):
        FedProx(mu=0)


def test_correction_is_added_to_unscaled_gradients_in_half_precision() -> None:
    reached = {}
    for half, mu in ((False, 5.0), (True, 5.0), (False, 1e-9)):
        torch.manual_seed(0)
        model = SlimmableClassifier(10, (1, 8, 8), backbone="mlp", backbone_options={"hidden": (8,)}, widths=[1.0])
        model.configure_optimizers = lambda model=model: torch.optim.SGD(model.parameters(), lr=0.05)
        # On a CPU Fabric would take bfloat16 by itself, which needs no scale.
        scaled = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
        fabric = Fabric(accelerator="cpu", devices=1, plugins=[scaled] if half else [])
        local = LocalTrainer(fabric, model, batch_size=8, seed=0)
        before = local.parameters.clone()
        corrector = FedProx(mu=mu).build(before, 1)
        corrector.start(before, None)
        inputs = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        samples, work = (inputs, torch.arange(64) % 10), LocalWork(epochs=3)
        local.train(before, samples, work=work, keys=("test",), grid=(1.0,), correction=corrector)
        reached[half, mu] = local.parameters - before
    right = reached[False, 5.0]
    assert (reached[True, 5.0] - right).norm() < 0.05 * right.norm()
    assert (reached[False, 1e-9] - right).norm() > 0.5 * right.norm()
