"""Kinds of operations that people's networks have, each against a judge that shares no code with the tracer."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck, ResNet

from aequa_lightning.backbones.vision import vit_tiny
from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel
from tests.helpers.width_judge import fault_of, randomize

IMAGE, ROWS = torch.randn(2, 3, 8, 8), torch.randn(3, 6)


class Net(nn.Module):
    """Layers by keyword, and a forward function of them."""

    def __init__(self, forward: Callable[..., Tensor], **layers: Any) -> None:
        super().__init__()
        self.f = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self, x)


def narrows(net: nn.Module, x: Tensor, widths: tuple[float, ...] = (1.0, 0.5)) -> bool:
    randomize(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SlimmableModel(net, widths, x[:1])
    return model.plan(widths[-1]).numel() < model.plan(1.0).numel()


def right(net: nn.Module, x: Tensor, widths: tuple[float, ...] = (1.0, 0.5), *, zeros: bool = True) -> None:
    assert fault_of(net, x, widths, zeros=zeros) == ""
    assert narrows(net, x, widths)


# ---- gates of one channel tie nothing ------------------------------------------------------------------------------


def test_tracing_map_of_one_channel_ties_none_of_those_that_it_multiplies() -> None:
    net = Net(
        lambda s, x: s.out(s.map(x).sigmoid() * s.body(x).relu()),
        body=nn.Conv2d(3, 16, 3, padding=1), map=nn.Conv2d(3, 1, 1), out=nn.Conv2d(16, 4, 1),
    )  # fmt: skip
    right(net, IMAGE)


def test_tracing_gate_of_one_channel_between_two_paths() -> None:
    def highway(s: Any, x: Tensor) -> Tensor:
        gate = s.gate(x).sigmoid()
        return s.out((gate * s.one(x) + (1 - gate) * s.two(x)).relu())

    right(Net(highway, one=nn.Linear(6, 20), two=nn.Linear(6, 20), gate=nn.Linear(6, 1), out=nn.Linear(20, 3)), ROWS)


# ---- moving data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 3, 7])
def test_tracing_linear_layer_viewed_as_a_map_of_any_size(side: int) -> None:
    net = Net(
        lambda s, x: s.out(s.up(s.fc(x).relu().view(len(x), -1, side, side)).relu()),
        fc=nn.Linear(6, 12 * side * side), up=nn.ConvTranspose2d(12, 8, 4, 2, 1), out=nn.Conv2d(8, 3, 1),
    )  # fmt: skip
    right(net, ROWS, (1.0, 0.75, 0.3))


@pytest.mark.parametrize("swap", [False, True])
def test_tracing_halves_that_are_treated_otherwise_keep_their_share(swap: bool) -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        one, two = s.a(x).chunk(2, -1)
        return s.b(torch.cat([two, one] if swap else [one.relu(), two], -1))

    right(Net(forward, a=nn.Linear(6, 32), b=nn.Linear(32, 3)), ROWS)


def test_tracing_memory_that_the_network_fills_itself() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        out = torch.zeros(len(x), 0 + s.a.out_features + s.b.out_features)
        out[:, : s.a.out_features], out[:, s.a.out_features :] = s.a(x), s.b(x).relu()
        return s.c(out)

    right(Net(forward, a=nn.Linear(6, 8), b=nn.Linear(6, 12), c=nn.Linear(20, 3)), ROWS, (1.0, 0.75, 0.5))


def test_tracing_sequences_that_are_packed() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        lengths = torch.tensor([5, 2, 4])[: len(x)]
        packed = nn.utils.rnn.pack_padded_sequence(s.i(x), lengths, batch_first=True, enforce_sorted=False)
        return s.o(s.r(packed)[1][0][-1])

    right(
        Net(forward, i=nn.Linear(4, 12), r=nn.LSTM(12, 10, batch_first=True), o=nn.Linear(10, 3)), torch.randn(3, 5, 4)
    )


# ---- parameters outside of layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("product", [torch.matmul, torch.mm, lambda y, w: torch.einsum("bi,ij->bj", y, w)])
def test_tracing_parameter_as_a_matrix(product: Callable[[Tensor, Tensor], Tensor]) -> None:
    net = Net(
        lambda s, x: s.out(product(s.a(x).relu(), s.w)),
        a=nn.Linear(6, 16), w=nn.Parameter(torch.randn(16, 12)), out=nn.Linear(12, 3),
    )  # fmt: skip
    right(net, ROWS)


def test_tracing_weight_that_is_computed_from_others() -> None:
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 16)), nn.ReLU(), nn.Linear(16, 3))
    narrow = SlimmableModel(net, [1, 0.5], ROWS[:1]).extract(0.5)
    hidden = functional.linear(ROWS, net[0].weight[:8], net[0].bias[:8]).relu()
    torch.testing.assert_close(narrow(ROWS), functional.linear(hidden, net[2].weight[:, :8], net[2].bias))


@pytest.mark.parametrize("kind", ["by hand", "parameter", "buffer", "rotary"])
def test_tracing_what_is_added_to_the_scores_of_heads_follows_the_heads(kind: str) -> None:
    n, heads, dim = 6, 4, 32
    size = dim // heads
    angles = torch.outer(torch.arange(n).float(), 0.1 ** (torch.arange(0, size, 2) / size))

    def turned(t: Tensor) -> Tensor:
        return torch.cat([-t[..., size // 2 :], t[..., : size // 2]], -1)

    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.i(x)
        q, k, v = (f(x).view(len(x), n, -1, size).transpose(1, 2) for f in (s.q, s.k, s.v))
        if kind == "rotary":
            q, k = (t * s.cos + turned(t) * s.sin for t in (q, k))
        bias = getattr(s, "bias", None)
        if kind == "by hand":
            y = (q @ k.mT * size**-0.5 + bias).softmax(-1) @ v
        else:
            y = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return s.out((x + s.o(y.transpose(1, 2).reshape(len(x), n, -1))).mean(1))

    layers = {name: nn.Linear(dim, dim) for name in "qkvo"}
    net = Net(forward, i=nn.Linear(5, dim), out=nn.Linear(dim, 3), **layers)
    if kind in ("by hand", "parameter"):
        net.bias = nn.Parameter(torch.randn(heads, n, n))
    if kind == "buffer":
        net.register_buffer("bias", torch.randn(heads, n, n))
    if kind == "rotary":
        net.register_buffer("cos", torch.cat([angles.cos()] * 2, -1))
        net.register_buffer("sin", torch.cat([angles.sin()] * 2, -1))
    right(net, torch.randn(2, n, 5), (1.0, 0.5, 0.25))


def test_tracing_keys_that_several_heads_share() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        x = s.i(x)
        q = s.q(x).view(len(x), 5, -1, 4).transpose(1, 2)
        k, v = (f(x).view(len(x), 5, -1, 4).transpose(1, 2).repeat_interleave(2, 1) for f in (s.k, s.v))
        y = functional.scaled_dot_product_attention(q, k, v)
        return s.out((x + s.o(y.transpose(1, 2).flatten(2))).mean(1))

    layers = {"q": nn.Linear(16, 16), "k": nn.Linear(16, 8), "v": nn.Linear(16, 8), "o": nn.Linear(16, 16)}
    right(Net(forward, i=nn.Linear(5, 16), out=nn.Linear(16, 3), **layers), torch.randn(2, 5, 5))


# ---- norms and sums over channels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "norm",
    [
        nn.LayerNorm(32, elementwise_affine=False),
        nn.RMSNorm(32, elementwise_affine=False),
        nn.LayerNorm(32, bias=False),
    ],
)
def test_tracing_norms_with_few_parameters_or_none(norm: nn.Module) -> None:
    right(nn.Sequential(nn.Linear(6, 32), norm, nn.ReLU(), nn.Linear(32, 3)), ROWS, zeros=False)


def test_tracing_norm_over_the_batch_at_all_times_with_an_example_of_one_sample() -> None:
    norm = nn.BatchNorm1d(16, track_running_stats=False)
    right(nn.Sequential(nn.Linear(6, 16), norm, nn.ReLU(), nn.Linear(16, 3)), ROWS, zeros=False)


@pytest.mark.parametrize("affine", [False, True])
def test_tracing_group_norm_keeps_its_groups_whole(affine: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.GroupNorm(4, 32, affine=affine), nn.ReLU(), nn.Conv2d(32, 5, 1))
    right(net, IMAGE, (1.0, 0.75, 0.5))
    assert SlimmableModel(net, [1, 0.5], IMAGE[:1]).extract(0.6)[1].num_groups == 3


def test_tracing_groups_whose_number_the_code_fixes_are_refused() -> None:
    net = Net(lambda s, x: s.b(functional.group_norm(s.a(x), 4).relu()), a=nn.Conv2d(3, 32, 3), b=nn.Conv2d(32, 5, 1))
    with pytest.raises(InputError, match=r"layer 'a': 'native_group_norm' in what follows layer 'a' would compute"):
        SlimmableModel(net, [1, 0.5], IMAGE[:1])
    net = Net(lambda s, x: s.b(s.a(x).view(len(x), 8, -1).sum(-1)), a=nn.Linear(6, 64), b=nn.Linear(8, 3))
    with pytest.raises(InputError, match="layer 'a': layer 'b' cannot run"):
        SlimmableModel(net, [1, 0.5], ROWS[:1])


@pytest.mark.parametrize("square", [False, True])
def test_tracing_lengths_over_the_channels(square: bool) -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        y = s.a(x)
        return s.b(y / (y.square().sum(1, keepdim=True).sqrt() + 1e-6) if square else functional.normalize(y, dim=1))

    right(Net(forward, a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 4, 1)), IMAGE)


def test_tracing_softmax_over_the_channels_is_taken_over_those_that_are_left() -> None:
    net = Net(lambda s, x: s.b(s.a(x).softmax(-1)), a=nn.Linear(6, 16), b=nn.Linear(16, 3))
    right(net, ROWS, zeros=False)
    narrow = SlimmableModel(net, [1, 0.5], ROWS[:1]).extract(0.5)
    own = functional.linear(ROWS, net.a.weight[:8], net.a.bias[:8]).softmax(-1)
    torch.testing.assert_close(narrow(ROWS), functional.linear(own, net.b.weight[:, :8], net.b.bias))


def test_tracing_operation_that_is_not_known_keeps_all_channels_and_is_named() -> None:
    net = Net(
        lambda s, x: s.c(s.b(s.a(x).renorm(2, 0, 1.0)).relu()),
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 10),
        c=nn.Linear(10, 2),
    )
    with pytest.warns(
        UserWarning, match=r"layer 'a': goes through 'renorm' in what follows layer 'a', which mixes channels"
    ):
        model = SlimmableModel(net, [1, 0.5], ROWS[:1])
    assert [axis.name for axis in model.structure.axes] == ["b"]


# ---- checked by numbers --------------------------------------------------------------------------------------------


class Wrong(nn.Module):
    """Multiplies by a ramp whose end depends on the number of channels, which only numbers tell."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.c(self.b(x * torch.linspace(1, 2, x.shape[1])).relu())


def test_tracing_width_that_computes_something_else_is_found_by_numbers() -> None:
    with pytest.warns(UserWarning, match="layer 'a': 'mul' in what follows layer 'a' would compute something else"):
        model = SlimmableModel(Wrong(), [1, 0.5], ROWS[:1])
    assert [axis.name for axis in model.structure.axes] == ["b"]
    unchecked = SlimmableModel(Wrong(), [1, 0.5], ROWS[:1], verify=False)
    assert [axis.name for axis in unchecked.structure.axes] == ["a", "b"]


def test_tracing_making_a_model_leaves_everything_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3))
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        SlimmableModel(net, [1, 0.5], ROWS[:1])
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_tracing_does_not_depend_on_the_number_of_threads() -> None:
    """Tensors are large enough for torch to divide operations among threads."""
    resnet = ResNet(Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=4)
    before = torch.get_num_threads()
    try:
        for network in (resnet, vit_tiny(10, (3, 32, 32), depth=1)):
            plans = []
            for threads in (1, 7):
                torch.set_num_threads(threads)
                plans.append(SlimmableModel(network, [1, 0.5], torch.zeros(1, 3, 32, 32)).plan(0.5))
            tags = {name: torch.arange(p.numel()).view(p.shape) for name, p in network.named_parameters()}
            one, other = (plan.take(tags) for plan in plans)
            assert all(torch.equal(part, other[name]) for name, part in one.items())
    finally:
        torch.set_num_threads(before)
