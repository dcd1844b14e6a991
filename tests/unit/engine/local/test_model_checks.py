"""What a model carries besides its parameters: constants pass, what training changes is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.ops import FrozenBatchNorm2d

from aequa_lightning.data import DigitsData
from aequa_lightning.engine.checkpoint import load_last
from aequa_lightning.engine.local.buffers import buffers
from aequa_lightning.engine.local.model_checks import check_state
from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.loop import Collaboration
from aequa_lightning.engine.reward_source import load_reward_source
from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import SlimmableClassifier
from tests.helpers.run_config import small_config

CPU = torch.device("cpu")


class Layer(nn.Module):
    """Is built and computes by two functions."""

    def __init__(
        self, build: Callable[[Any], Any], compute: Callable[[Any, Tensor], Any], *, in_evaluation: bool = False
    ) -> None:
        super().__init__()
        self.compute, self.in_evaluation = compute, in_evaluation
        build(self)

    def forward(self, x: Tensor) -> Tensor:
        found = None
        if self.training or self.in_evaluation:
            with torch.no_grad():
                found = self.compute(self, x)
        return x if found is None else x * found


def buffer(name: str, value: Callable[[], Tensor], **options: bool) -> Callable[[Any], None]:
    return lambda layer: layer.register_buffer(name, value(), **options)


def reassign(layer: Any, x: Tensor) -> None:
    layer.mean = 0.9 * layer.mean + 0.1 * x.mean()


def count(layer: Any, x: Tensor) -> float:
    layer.calls += 1
    return 1 / layer.calls


def first_scale(layer: Any, x: Tensor) -> Tensor:
    if layer.scale is None:
        layer.scale = x.std()
    return layer.scale


def table(layer: Any, x: Tensor) -> None:
    if not hasattr(layer, "positions"):
        layer.register_buffer("positions", torch.arange(x.shape[1]), persistent=False)


def remember(layer: Any, x: Tensor) -> None:
    layer.last = x.detach().clone()


class ExtraState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def get_extra_state(self) -> Any:
        return {"seen": self.seen}

    def set_extra_state(self, state: Any) -> None:
        self.seen = state["seen"]

    def forward(self, x: Tensor) -> Tensor:
        self.seen += self.training
        return x


def zero() -> Tensor:
    return torch.zeros(())


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a running maximum": (
        lambda: Layer(buffer("top", zero), lambda layer, x: layer.top.mul_(0.9).add_(x.abs().max(), alpha=0.1).exp()),
        "buffer 2.top",
    ),
    "a mean that is assigned anew": (lambda: Layer(buffer("mean", zero), reassign), "buffer 2.mean"),
    "a counter that is not persistent": (
        lambda: Layer(
            buffer("steps", lambda: torch.zeros((), dtype=torch.int64), persistent=False),
            lambda layer, x: layer.steps.add_(1) * 0 + 1,
        ),
        "buffer 2.steps",
    ),
    "a buffer that evaluation changes": (
        lambda: Layer(
            buffer("steps", zero),
            lambda layer, x: None if layer.training else layer.steps.add_(1) * 0 + 1,
            in_evaluation=True,
        ),
        "buffer 2.steps",
    ),
    "a counter that is a plain attribute": (
        lambda: Layer(lambda layer: setattr(layer, "calls", 0), count),
        "another loss",
    ),
    "a scale that the first batch decides": (
        lambda: Layer(lambda layer: setattr(layer, "scale", None), first_scale),
        "another loss",
    ),
    "a generator of its own": (
        lambda: Layer(
            lambda layer: setattr(layer, "draws", np.random.default_rng(0)), lambda layer, x: layer.draws.random()
        ),
        "another loss",
    ),
    "a table that is made when it is first needed": (lambda: Layer(lambda layer: None, table), "buffer 2.positions"),
    "an extra state": (ExtraState, "extra state of 2"),
    "the buffer of a parametrization's kin": (
        lambda: Layer(buffer("u", lambda: torch.ones(3)), lambda layer, x: layer.u.copy_(torch.rand(3)).norm()),
        "buffer 2.u",
    ),
}
ACCEPTED: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm1d(8),
    "a cumulative batch norm": lambda: nn.BatchNorm1d(8, momentum=None),
    "dropout": lambda: nn.Dropout(0.5),
    "draws from NumPy": lambda: Layer(lambda layer: None, lambda layer, x: float(np.random.rand())),
    "a constant": lambda: Layer(buffer("scale", lambda: torch.tensor(2.0)), lambda layer, x: layer.scale),
    "not-a-number": lambda: Layer(buffer("unused", lambda: torch.tensor(float("nan"))), lambda layer, x: None),
    "an attribute that is only written": lambda: Layer(lambda layer: None, remember),
}


def classifier_with(layer: nn.Module, monkeypatch: pytest.MonkeyPatch, **options: Any) -> SlimmableClassifier:
    torch.manual_seed(0)
    monkeypatch.setattr(
        "aequa_lightning.backbones.full_network.build_backbone",
        lambda name, num_classes, input_shape, **_: nn.Sequential(
            nn.Flatten(), nn.Linear(int(np.prod(input_shape)), 8), layer, nn.Linear(8, num_classes)
        ),
    )
    return SlimmableClassifier(3, (5,), widths=(1.0, 0.5), **options)


def samples(count: int = 8) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(count, 5, generator=generator), torch.arange(count) % 3)


@pytest.mark.parametrize("kind", REFUSED)
def test_model_check_refuses_what_training_changes_by_its_name(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, name = REFUSED[kind]
    with pytest.raises(InputError, match=f"model.backbone: .*{name}"):
        check_state(classifier_with(build(), monkeypatch), samples(), device=CPU)


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("kind", ACCEPTED)
def test_model_check_accepts_what_training_leaves_unchanged(
    kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = classifier_with(ACCEPTED[kind](), monkeypatch)
    before, draws = {name: value.clone() for name, value in classifier.state_dict().items()}, torch.get_rng_state()
    check_state(classifier, samples(count), device=CPU)
    for name, value in classifier.state_dict().items():
        torch.testing.assert_close(value, before[name], equal_nan=True, atol=0, rtol=0)
    assert torch.equal(torch.get_rng_state(), draws)


def frozen(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    layers = [nn.Conv2d(input_shape[0], 8, 3), FrozenBatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    layers[1].running_mean.copy_(torch.arange(8.0))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, num_classes))


def test_model_check_accepts_frozen_statistics_which_a_width_cuts() -> None:
    classifier = SlimmableClassifier(3, (1, 8, 8), backbone=f"{__name__}:frozen", widths=(1.0, 0.5))
    check_state(classifier, TensorDataset(torch.randn(8, 1, 8, 8), torch.arange(8) % 3), device=CPU)
    assert classifier.network.extract(0.5)[1].running_mean.tolist() == [0, 1, 2, 3]


def test_model_check_refuses_an_augmentation_with_its_own_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(0)
    classifier = classifier_with(nn.ReLU(), monkeypatch)
    with pytest.raises(InputError, match="augmentation"):
        check_state(classifier, samples(), device=CPU, augmentation=lambda inputs: inputs * float(draws.random()))


def test_buffer_guard_finds_a_buffer_that_changes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(layer: Any, x: Tensor) -> None:
        if float(x.abs().max()) > 100:
            layer.top += 1

    classifier = classifier_with(Layer(buffer("top", zero), late), monkeypatch)
    check_state(classifier, samples(), device=CPU)
    local = LocalTrainer(Fabric(accelerator="cpu", devices=1), classifier, batch_size=4, seed=0)
    inputs, targets = samples().tensors
    options: dict[str, Any] = {"work": LocalWork(), "keys": ("test",), "grid": (1.0, 0.5)}
    local.train(local.parameters.clone(), (inputs, targets), **options)
    with pytest.raises(InputError, match=r"training has changed buffer 2\.top"):
        local.train(local.parameters.clone(), (inputs * 1e6, targets), **options)


class Fourier(nn.Module):
    """Random features: a table that its builder draws."""

    def __init__(self, *, persistent: bool) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(8), persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.table.cos()


def persistent(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    size = int(np.prod(input_shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 8), Fourier(persistent=True), nn.Linear(8, num_classes))


def fleeting(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    size = int(np.prod(input_shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 8), Fourier(persistent=False), nn.Linear(8, num_classes))


def test_model_check_refuses_random_buffers_that_no_file_holds() -> None:
    with pytest.raises(InputError, match=r"buffer 2\.table is not persistent"):
        check_state(SlimmableClassifier(3, (5,), backbone=f"{__name__}:fleeting"), samples(), device=CPU)
    check_state(SlimmableClassifier(3, (5,), backbone=f"{__name__}:persistent"), samples(), device=CPU)


def run_with(run_dir: Path, seed: int, **options: Any) -> Collaboration:
    data = DigitsData(participants=2, train_samples=80, batch_size=8)
    torch.manual_seed(seed)
    model = SlimmableClassifier(10, data.input_shape, backbone=f"{__name__}:persistent", widths=(1.0, 0.5))
    config = small_config(run_dir, **{"max_rounds": 2, "standalone": False} | options)
    return Collaboration(Fabric(accelerator="cpu", devices=1), model, data, config=config, callbacks=[])


def test_buffers_are_part_of_a_checkpoint(tmp_path: Path) -> None:
    whole, half = run_with(tmp_path / "whole", 0), run_with(tmp_path / "half", 0, max_rounds=1)
    assert whole.fit()
    assert half.fit()
    state = load_last(tmp_path / "half" / "checkpoints") or {}
    resumed = run_with(tmp_path / "half", 1)
    resumed.load_state_dict(state)
    assert resumed.fit()
    assert torch.equal(resumed.run.parameters, whole.run.parameters)
    assert torch.equal(
        buffers(resumed.run.classifier)["network.full.2.table"], whole.run.classifier.network.full[2].table
    )
    other = run_with(tmp_path / "other", 2).run.classifier
    load_reward_source(other, state)
    assert torch.equal(other.network.full[2].table, whole.run.classifier.network.full[2].table)
