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
        ("resnet18", (3, 16, 16)),
        ("resnet18_gn", (1, 14, 14)),
        ("vgg11", (1, 32, 32)),
        ("mobilenet_v2", (1, 32, 32)),
        ("vit_tiny", (1, 28, 28)),
        ("bilstm", (9,)),
        ("text_cnn", (9,)),
    ],
)
def test_backbone_every_backbone_can_be_narrowed(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    words = {"vocabulary_size": 50} if len(shape) == 1 else {}
    x = torch.randint(0, 50, (3, *shape)) if words else torch.randn(3, *shape)
    options = words | ({"depth": 2} if name == "vit_tiny" else {})
    model = SlimmableModel(build_backbone(name, num_classes=7, input_shape=shape, **options), [1, 0.25], x[:1])
    model.recalibrate([x], [0.25])
    narrow = model.eval().extract(0.25)
    assert torch.equal(narrow(x), model(x, width=0.25))
    assert narrow(x).shape == (3, 7)
    assert model.plan(0.25).numel() < model.plan(1.0).numel() / 2


def test_backbone_padding_says_nothing() -> None:
    for name in ("bilstm", "text_cnn"):
        net = build_backbone(name, num_classes=2, input_shape=(5,), vocabulary_size=9).eval()
        assert not net.words(torch.tensor([0])).any()
    net = build_backbone("bilstm", num_classes=2, input_shape=(5,), vocabulary_size=9)
    net.lstm.bias_ih_l0_reverse.data.zero_()
    net.lstm.bias_hh_l0_reverse.data.zero_()
    # Without biases the backward direction stays at zero until the first word, so only the words are averaged.
    assert torch.allclose(net(torch.tensor([[3, 4, 0, 0]])), net(torch.tensor([[3, 4]])), atol=1e-6)


def test_backbone_papers_cnn_has_its_sizes() -> None:
    parts = list(build_backbone("cnn", num_classes=10, input_shape=(3, 32, 32)).children())
    layers = [layer for layer in parts if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert [layer.weight.shape[0] for layer in layers] == [6, 16, 120, 84, 10]
    assert layers[2].in_features == 400


def test_backbone_group_norm_has_constant_channels_per_group() -> None:
    net = build_backbone("resnet18_gn", num_classes=10, input_shape=(3, 32, 32))
    norms = [part for part in net.modules() if isinstance(part, nn.GroupNorm)]
    assert {part.num_channels // part.num_groups for part in norms} == {16}
    assert not any(isinstance(part, nn.BatchNorm2d) for part in net.modules())


def test_backbone_options_and_own_functions() -> None:
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
        ("vgg11", (1, 28, 28), {}, "too small"),
        ("vgg11", (1, 32, 32), {"norm": "layer"}, "'layer' is unknown"),
        ("vit_tiny", (1, 30, 30), {}, "not filled"),
        ("vit_tiny", (1, 28, 28), {"heads": 5}, "do not divide"),
        ("bilstm", (1, 8, 8), {"vocabulary_size": 9}, "is no text"),
        ("bilstm", (8,), {}, "vocabulary_size"),
        ("text_cnn", (4,), {"vocabulary_size": 9}, "5 words are more than the 4"),
        ("cnn3", (1, 8, 8), {"norm": "layer"}, "'layer' is unknown"),
        ("cnn3", (1, 8, 8), {"depth": 3}, "depth"),
    ],
)
def test_backbone_mistakes_are_named(
    name: str, shape: tuple[int, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_backbone(name, num_classes=2, input_shape=shape, **options)
