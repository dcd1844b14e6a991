"""Operations of people's networks, one kind after another, against a judge that shares no code with the tracer."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel
from tests.helpers.width_judge import fault_of

from .test_tracing import IMAGE, ROWS, Net, right

# ---- cells, experts, graphs, numbers with an imaginary part --------------------------------------------------------


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_tracing_cells_that_the_network_steps_by_itself(cell: type[nn.RNNCellBase]) -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = s.cell(step, state)
        return s.out(state[0] if isinstance(state, tuple) else state)

    right(Net(forward, cell=cell(5, 16), out=nn.Linear(16, 3)), torch.randn(2, 4, 5))


def _routed(s: Any, x: Tensor, skip: bool) -> Tensor:
    hidden = s.inner(x)
    weights, chosen = s.gate(hidden).softmax(-1).topk(2, -1)
    total = torch.zeros_like(hidden)
    for number, expert in enumerate(s.experts):
        rows, place = torch.where(chosen == number)
        if skip and not len(rows):
            continue
        total.index_add_(0, rows, expert(hidden[rows]) * weights[rows, place, None])
    return s.out(total)


@pytest.mark.parametrize("skip", [False, True])
def test_tracing_experts_that_are_chosen_by_the_input(skip: bool) -> None:
    """Those that the example does not reach are found by other inputs."""
    experts = nn.ModuleList([nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 12)) for _ in range(4)])
    net = Net(
        lambda s, x: _routed(s, x, skip), inner=nn.Linear(6, 12), gate=nn.Linear(12, 4), experts=experts,
        out=nn.Linear(12, 3),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="layer 'gate': lies along a dimension that 'topk'"):
        right(net, torch.randn(16, 6))


@pytest.mark.parametrize(
    "write",
    [
        lambda y, places: torch.zeros_like(y).index_add(1, places, y),
        lambda y, places: torch.zeros_like(y).scatter_add_(1, places[:, None].expand_as(y), y),
        lambda y, places: y.clone().index_put((torch.tensor([0]), torch.tensor([1])), y[:1, 0]),
        lambda y, places: y.index_copy(1, places[:2], y[:, 2:4]),
    ],
)
def test_tracing_writing_by_position_along_other_dimensions(write: Callable[..., Tensor]) -> None:
    places = torch.tensor([0, 1, 1, 2, 0, 2])
    net = Net(lambda s, x: s.out(write(s.inner(x), places)), inner=nn.Linear(5, 16), out=nn.Linear(16, 3))
    right(net, torch.randn(2, 6, 5))


def test_tracing_rows_of_a_parameter_that_the_input_names_are_all_kept() -> None:
    net = Net(lambda s, x: s.out(s.words[x].mean(1)), words=nn.Parameter(torch.randn(30, 16)), out=nn.Linear(16, 3))
    right(net, torch.randint(0, 30, (2, 7)))
    assert SlimmableModel(net, [1, 0.5], torch.zeros(1, 7, dtype=torch.long)).extract(0.5).words.shape == (30, 8)


@pytest.mark.parametrize("buffer", [False, True])
def test_tracing_rotations_as_complex_numbers(buffer: bool) -> None:
    angles = torch.outer(torch.arange(6.0), torch.tensor([1.0, 0.1]))
    turns = torch.polar(torch.ones_like(angles), angles)

    def turned(s: Any, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * (s.turns if buffer else turns)).flatten(-2)

    def forward(s: Any, x: Tensor) -> Tensor:
        q, k, v = (part(x).view(len(x), 6, -1, 4).transpose(1, 2) for part in (s.q, s.k, s.v))
        y = functional.scaled_dot_product_attention(turned(s, q), turned(s, k), v)
        return s.out(y.transpose(1, 2).flatten(2).mean(1))

    net = Net(forward, out=nn.Linear(16, 3), **{name: nn.Linear(5, 16) for name in "qkv"})
    if buffer:
        net.register_buffer("turns", turns)
    right(net, torch.randn(2, 6, 5))


def test_tracing_fourier_transforms_along_other_dimensions() -> None:
    net = Net(
        lambda s, x: s.out(torch.fft.irfft(torch.fft.rfft(s.inner(x)) * torch.view_as_complex(s.filter), n=6)),
        inner=nn.Conv1d(5, 8, 1), filter=nn.Parameter(torch.randn(8, 4, 2)), out=nn.Conv1d(8, 3, 1),
    )  # fmt: skip
    right(net, torch.randn(2, 5, 6))


@pytest.mark.parametrize(
    "change",
    [
        lambda y: functional.hardswish(y, inplace=True),
        lambda y: functional.mish(y, inplace=True),
        lambda y: y.masked_fill_(y < 0, 0.5),
        lambda y: functional.grid_sample(
            y, torch.linspace(-1, 1, 18).view(1, 3, 3, 2).expand(len(y), -1, -1, -1), align_corners=False
        ),
        lambda y: functional.max_unpool2d(*functional.max_pool2d(y, 2, return_indices=True), 2),
        lambda y: functional.fold(functional.unfold(y, 2, stride=2), (8, 8), 2, stride=2),
        lambda y: y.sort(2).values,
    ],
)
def test_tracing_operations_that_leave_the_channels_apart(change: Callable[[Tensor], Tensor]) -> None:
    right(Net(lambda s, x: s.out(change(s.a(x))), a=nn.Conv2d(3, 16, 1), out=nn.Conv2d(16, 3, 1)), IMAGE)


def test_tracing_bilinear_layers_and_distances() -> None:
    net = Net(
        lambda s, x: -torch.cdist(s.both(s.one(x).relu(), s.two(x).relu()), s.centres),
        one=nn.Linear(6, 10), two=nn.Linear(6, 12), both=nn.Bilinear(10, 12, 14),
        centres=nn.Parameter(torch.randn(4, 14)),
    )  # fmt: skip
    right(net, ROWS)


def test_tracing_size_that_the_code_scales_by_stays_as_it_is() -> None:
    net = Net(
        lambda s, x: s.out((s.words(x) * s.d_model**0.5).mean(1)),
        words=nn.Embedding(30, 16), out=nn.Linear(16, 3), d_model=16,
    )  # fmt: skip
    right(net, torch.randint(0, 30, (2, 7)))
    net.f = lambda s, x: s.out((s.words(x) * s.words.embedding_dim**0.5).mean(1))
    with pytest.raises(InputError, match="layer 'words': 'mul' in what follows layer 'words' would compute something"):
        SlimmableModel(net, [1, 0.5], torch.zeros(1, 7, dtype=torch.long))


def test_tracing_what_no_code_can_be_read_of_is_refused() -> None:
    with pytest.raises(InputError, match="layer '0' has no parameters yet"):
        SlimmableModel(nn.Sequential(nn.LazyLinear(16), nn.Linear(16, 3)), [1, 0.5], ROWS[:1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        traced = torch.jit.trace(nn.Linear(6, 8), ROWS)
    with pytest.raises(InputError, match="layer '0' is TorchScript"):
        SlimmableModel(nn.Sequential(traced, nn.Linear(8, 3)), [1, 0.5], ROWS[:1])


# ---- what is repeated until it fits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("expanded", [False, True])
def test_tracing_one_key_for_all_heads(expanded: bool) -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        q, k, v = s.q(x).view(len(x), 6, -1, 4).transpose(1, 2), s.k(x)[:, None], s.v(x)[:, None]
        if expanded:
            k, v = (part.expand(-1, q.shape[1], -1, -1) for part in (k, v))
        y = (q @ k.mT).softmax(-1) @ v
        return s.out(y.transpose(1, 2).flatten(2).mean(1))

    net = Net(forward, q=nn.Linear(5, 16), k=nn.Linear(5, 4), v=nn.Linear(5, 4), out=nn.Linear(16, 3))
    with pytest.warns(UserWarning, match="layer 'k': is repeated at 'bmm'"):
        model = SlimmableModel(net, [1, 0.5], torch.randn(1, 6, 5))
    assert model.extract(0.5).q.out_features == 8
    with pytest.warns(UserWarning, match="layer 'k': is repeated at 'bmm'"):
        assert fault_of(net, torch.randn(2, 6, 5), (1.0, 0.5)) == ""


def test_tracing_mask_from_the_input_that_all_heads_share() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        y = s.inner(x)
        return s.out(s.heads(y, y, y, key_padding_mask=x[..., 0] > 1)[0].mean(1))

    heads = nn.MultiheadAttention(16, 4, batch_first=True)
    net = Net(forward, inner=nn.Linear(5, 16), heads=heads, out=nn.Linear(16, 3))
    x = torch.rand(2, 6, 5)
    x[:, -1, 0] = 2
    right(net, x)
    assert SlimmableModel(net, [1, 0.5], x[:1]).extract(0.5).heads.num_heads == 2


def test_tracing_gate_that_is_repeated_for_each_channel() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        y = s.a(x)
        return s.out(y * s.gate(y).sigmoid().repeat(1, y.shape[1], 1, 1))

    right(Net(forward, a=nn.Conv2d(3, 16, 1), gate=nn.Conv2d(16, 1, 1), out=nn.Conv2d(16, 4, 1)), IMAGE)


def test_tracing_rotations_of_a_part_of_each_head() -> None:
    angles = torch.arange(6.0)[:, None]

    def turned(x: Tensor) -> Tensor:
        one, two, rest = x[..., 0::4], x[..., 1::4], x[..., 2:]
        turned = one * angles.cos() - two * angles.sin(), one * angles.sin() + two * angles.cos()
        return torch.cat([torch.stack(turned, -1).flatten(-2), rest], -1)

    def forward(s: Any, x: Tensor) -> Tensor:
        q, k, v = (part(x).view(len(x), 6, -1, 4).transpose(1, 2) for part in (s.q, s.k, s.v))
        return s.out(((turned(q) @ turned(k).mT).softmax(-1) @ v).transpose(1, 2).flatten(2).mean(1))

    net = Net(forward, out=nn.Linear(16, 3), **{name: nn.Linear(5, 16) for name in "qkv"})
    right(net, torch.randn(2, 6, 5))
    assert SlimmableModel(net, [1, 0.5], torch.randn(1, 6, 5)).extract(0.5).q.out_features == 8
