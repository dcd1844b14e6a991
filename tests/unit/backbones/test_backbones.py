import pytest
import torch
from torch import nn

from aequa_lightning.backbones import BACKBONES, build_backbone
from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlp", (1, 8, 8)),
        ("cnn", (1, 28, 28)),
        ("cnn", (3, 32, 32)),
        ("cnn", (1, 16, 16)),
        ("cnn3", (1, 8, 8)),
        ("resnet18", (3, 32, 32)),
        ("resnet18_gn", (1, 28, 28)),
    ],
)
def test_every_backbone_can_be_narrowed(name: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(2, *shape)
    model = SlimmableModel(build_backbone(name, num_classes=7, input_shape=shape), [1, 0.3, 0.125], x[:1]).eval()
    for width in model.widths:
        assert model(x, width=width).shape == (2, 7)
    assert model.plan(0.125).numel() < model.plan(0.3).numel() < model.plan(1.0).numel()


def test_the_papers_cnn_has_its_sizes() -> None:
    parts = list(build_backbone("cnn", num_classes=10, input_shape=(3, 32, 32)).children())
    layers = [layer for layer in parts if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert [layer.weight.shape[0] for layer in layers] == [6, 16, 120, 84, 10]
    assert layers[2].in_features == 400


def test_group_norm_has_constant_channels_per_group() -> None:
    net = build_backbone("resnet18_gn", num_classes=10, input_shape=(3, 32, 32))
    norms = [part for part in net.modules() if isinstance(part, nn.GroupNorm)]
    assert {part.num_channels // part.num_groups for part in norms} == {16}
    assert not any(isinstance(part, nn.BatchNorm2d) for part in net.modules())


def test_options_and_own_functions() -> None:
    net = build_backbone("cnn3", num_classes=2, input_shape=(1, 8, 8), norm="none")
    assert not any(isinstance(part, nn.BatchNorm2d) for part in net.modules())
    own = build_backbone("aequa_lightning.backbones.cnn:mlp", num_classes=2, input_shape=(3,), hidden=(5,))
    assert own(torch.zeros(1, 3)).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("cnnn", (1, 8, 8), {}, "choose one of " + ", ".join(BACKBONES)),
        ("no.such:thing", (1, 8, 8), {}, "cannot be imported"),
        ("cnn", (1, 8, 8), {}, "too small"),
        ("cnn", (64,), {}, "no image"),
        ("cnn3", (1, 8, 8), {"norm": "layer"}, "'layer' is unknown"),
        ("cnn3", (1, 8, 8), {"depth": 3}, "depth"),
    ],
)
def test_mistakes_are_named(name: str, shape: tuple[int, ...], options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_backbone(name, num_classes=2, input_shape=shape, **options)
