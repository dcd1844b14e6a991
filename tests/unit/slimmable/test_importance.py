from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel
from aequa_lightning.slimmable.importance import channel_importance, order_by_importance
from tests.unit.slimmable.networks import NETWORKS, batch

SMALL = sorted(NETWORKS.keys() - {"resnet10", "resnet10_gn", "lenet"})


def tensors(model: SlimmableModel) -> dict[str, Tensor]:
    return dict([*model.full.named_parameters(), *model.full.named_buffers()])


def shaken(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a network whose norms and their statistics are no longer constant over the channels."""
    torch.manual_seed(0)
    net = build().double()
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.3)
    return net


@pytest.mark.parametrize("name", SMALL)
def test_importance_function_stays_and_the_prefix_gains(name: str) -> None:
    build, shape = NETWORKS[name]
    x = batch(shape)
    x = x.double() if x.is_floating_point() else x
    model = SlimmableModel(shaken(build), [1, 0.3], x[:1]).eval()
    axes, before = model.structure.axes, model(x)
    importance = channel_importance(model.structure, tensors(model))
    weights = [parameter.clone() for parameter in model.parameters()]
    assert order_by_importance(model) == ()
    torch.testing.assert_close(model(x), before, rtol=1e-6, atol=1e-9)

    after = channel_importance(model.structure, tensors(model))
    kept = [size // axis.unit for size, axis in zip(model.structure.sizes(0.3), axes, strict=True)]
    for axis, old, new in zip(axes, importance, after, strict=True):
        assert bool((new.diff() <= 1e-9).all()), axis
        torch.testing.assert_close(new.sort().values, old.sort().values)
    gains = [float(new[:c].sum() - old[:c].sum()) for new, old, c in zip(after, importance, kept, strict=True)]
    assert sum(gains) > 0 or name == "attention"  # its best two heads stand first from the start
    assert not all(torch.equal(*pair) for pair in zip(weights, model.parameters(), strict=True))


def test_importance_of_a_channel_is_the_norm_of_what_reads_it() -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.up, self.head = nn.Conv2d(1, 4, 1), nn.ConvTranspose2d(4, 6, 2), nn.Linear(6 * 9, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.up(self.first(x)).flatten(1))

    model = SlimmableModel(Up(), [1, 0.5], torch.zeros(1, 1, 2, 2))
    first, up = channel_importance(model.structure, tensors(model))
    net = model.full
    torch.testing.assert_close(first, net.up.weight.detach().double().abs().sum((1, 2, 3)))
    torch.testing.assert_close(up, net.head.weight.detach().double().abs().view(2, 6, 9).sum((0, 2)))


class Multiplied(nn.Module):
    """A depthwise convolution with two outputs for each input, between layers whose order is free."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, groups=8)
        self.last, self.head = nn.Conv2d(16, 6, 1), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.twice(self.stem(x)).relu()).relu().mean((2, 3)))


def test_importance_axes_that_depend_on_each_other_move_together() -> None:
    net = shaken(Multiplied)
    x = torch.randn(3, 3, 5, 5, dtype=torch.double)
    model = SlimmableModel(net, [1, 0.5], x[:1])
    before, old = model(x), net.stem.weight.clone()
    total = net.last.weight.detach().abs().sum((0, 2, 3)).view(8, 2).sum(1)  # the depthwise one mixes no channels
    assert order_by_importance(model) == ()
    torch.testing.assert_close(model(x), before)
    assert torch.equal(net.stem.weight, old[total.argsort(descending=True)])


class Ramp(nn.Module):
    """A weight that is written into the code and differs from channel to channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x * (1 + torch.arange(x.shape[1])).view(-1, 1, 1)
        return self.head(self.last(x).relu().mean((2, 3)))


def test_importance_axis_whose_order_something_else_depends_on_stays() -> None:
    net = shaken(Ramp)
    x = torch.randn(3, 3, 5, 5, dtype=torch.double)
    model = SlimmableModel(net, [1, 0.5], x[:1])
    before, stem, last = model(x), net.stem.weight.clone(), net.last.weight.clone()
    assert order_by_importance(model) == ("stem",)
    torch.testing.assert_close(model(x), before)
    assert torch.equal(net.stem.weight, stem)
    assert not torch.equal(net.last.weight, last)


def test_importance_statistics_of_narrow_widths_are_forgotten() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    model, x = SlimmableModel(net, [1, 0.5], torch.zeros(1, 4)), torch.randn(6, 4)
    model.recalibrate([x])
    model.eval()
    before = model(x)
    order_by_importance(model)
    torch.testing.assert_close(model(x), before)
    with pytest.raises(InputError, match="recalibrate"):
        model(x, width=0.5)
    model.recalibrate([x])
    assert torch.equal(model(x, width=0.5), model.extract(0.5)(x))
