import copy
import itertools

import pytest
import torch
from torch import nn
from torchvision.models import vgg11_bn

from aequa_lightning.backbones import build_backbone
from aequa_lightning.backbones.pooling import pool_first


def outputs_and_gradients(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    images = images.clone().requires_grad_()
    outputs = network(images)
    weights = torch.linspace(-1, 1, outputs.numel()).view_as(outputs)
    return [outputs, *torch.autograd.grad((outputs * weights).sum(), [images, *network.parameters()])]


@pytest.mark.parametrize(
    "pooling",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.MaxPool2d(2, dilation=2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("inplace", [False, True])
def test_pooling_outputs_and_gradients_are_the_same_to_the_bit(pooling: nn.MaxPool2d, inplace: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.ReLU(inplace), pooling, nn.Conv2d(4, 3, 2))
    # Few different numbers: windows with ties, with nothing but zeros, and with nothing positive.
    network[0].weight.data.copy_(torch.randint(-1, 2, network[0].weight.shape))
    images = torch.randint(-1, 2, (20, 2, 9, 7)).float()
    expected = outputs_and_gradients(copy.deepcopy(network), images)
    exchanged = pool_first(network)
    assert [type(layer) for layer in exchanged] == [nn.Conv2d, nn.MaxPool2d, nn.ReLU, nn.Conv2d]
    for value, other in zip(outputs_and_gradients(exchanged, images), expected, strict=True):
        assert torch.equal(value, other)


def test_pooling_layers_with_parameters_keep_their_names() -> None:
    with torch.device("meta"):
        network = vgg11_bn()
    names = [name for name, _ in network.named_parameters()]
    assert [name for name, _ in pool_first(network).named_parameters()] == names
    assert [type(layer) for layer in network.features[2:4]] == [nn.MaxPool2d, nn.ReLU]


@pytest.mark.parametrize(
    "layers",
    [
        [nn.GELU(), nn.MaxPool2d(2)],
        [nn.ReLU6(), nn.MaxPool2d(2)],
        [nn.ReLU(), nn.AvgPool2d(2)],
        [nn.ReLU(), nn.MaxPool2d(2, return_indices=True)],
        [nn.MaxPool2d(2), nn.ReLU()],
    ],
    ids=repr,
)
def test_pooling_nothing_else_is_exchanged(layers: list[nn.Module]) -> None:
    assert list(pool_first(nn.Sequential(*layers))) == layers


def test_pooling_networks_by_name_pool_first() -> None:
    kinds = [type(layer) for layer in build_backbone("cnn", num_classes=10, input_shape=(1, 28, 28)).modules()]
    assert nn.MaxPool2d in kinds
    assert (nn.ReLU, nn.MaxPool2d) not in itertools.pairwise(kinds)
