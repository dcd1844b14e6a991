import copy
import functools
import io
import pickle
from itertools import pairwise

import pytest
import torch
from torch import nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel

from .networks import NETWORKS, Dense, Residual, batch, grouped, lenet

WIDTHS = (1.0, 0.75, 0.61, 0.5, 0.3, 0.25)


def layers(model: SlimmableModel) -> list[str]:
    return list(dict.fromkeys(axis.name for axis in model.structure.axes))


def mixed(model: SlimmableModel) -> dict[str, float]:
    """Return a width of which neighbouring layers differ as much as they can."""
    return {layer: (0.25, 0.61, 1.0)[number % 3] for number, layer in enumerate(layers(model))}


@functools.cache
def make(name: str) -> tuple[SlimmableModel, torch.Tensor]:
    """Return a model in evaluation with all its widths, and a batch. Tests share it, and must not change its values."""
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    x = batch(shape)
    model = SlimmableModel(build(), WIDTHS, x[:1])
    for width in (*WIDTHS, mixed(model)):
        model(x, width=width)  # gives every width statistics of its own
    return model.eval(), x


@pytest.mark.parametrize("name", NETWORKS)
def test_slimmable_extracts_compute_the_same_to_the_bit(name: str) -> None:
    model, x = make(name)
    for width in (*WIDTHS, mixed(model)):
        narrow = model.extract(width)
        assert torch.equal(narrow(x), model(x, width=width))
        assert sum(p.numel() for p in narrow.parameters()) == model.plan(width).numel()
        assert type(narrow) is type(model.full)


@pytest.mark.parametrize("name", NETWORKS)
def test_slimmable_gradients_are_the_standalone_ones_in_their_place_and_zero_elsewhere(name: str) -> None:
    model, x = make(name)
    for width in (*WIDTHS[1:], mixed(model)):
        narrow = model.extract(width)
        model.zero_grad()
        model(x, width=width).square().sum().backward()
        narrow(x).square().sum().backward()
        alone = {key: p.grad for key, p in narrow.named_parameters() if p.grad is not None}
        expected = {key: torch.zeros_like(p) for key, p in model.full.named_parameters()}
        model.plan(width).put(expected, alone)
        outside = {key: torch.ones_like(p, dtype=torch.bool) for key, p in model.full.named_parameters()}
        model.plan(width).put(outside, {key: torch.zeros_like(p, dtype=torch.bool) for key, p in alone.items()})
        for key, parameter in model.full.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, expected[key])
            assert not parameter.grad[outside[key]].any()


@pytest.mark.parametrize("name", NETWORKS)
def test_slimmable_widths_nest(name: str) -> None:
    """The oracle: weights that hold their own position tell after any cut where they came from."""
    model, _ = make(name)
    tags = {key: torch.arange(p.numel(), dtype=torch.double).view(p.shape) for key, p in model.full.named_parameters()}
    held = {key: tag[:0] for key, tag in tags.items()}
    large = "resnet" in name
    widths = sorted(WIDTHS) if large else model.distinct_widths()
    for low, high in pairwise((widths[0], *widths)):
        for width in [high] if large else [*model.widths_between(low, high).values(), high]:
            for key, part in model.plan(width).extract(tags).items():
                assert torch.isin(held[key], part).all()
                held[key] = part
    assert all(torch.equal(held[key], tag) for key, tag in tags.items())


@pytest.mark.parametrize("name", ["lenet", "residual", "dense", "grouped", "attention"])
def test_slimmable_between_two_widths_one_layer_after_another_is_widened(name: str) -> None:
    model, x = make(name)
    for low, high in pairwise(model.distinct_widths()):
        chain = {low: low, **model.widths_between(low, high), high: high}
        assert list(chain) == sorted(chain)
        sizes = [model.structure.sizes(width) for width in chain.values()]
        for before, after in pairwise(sizes):
            changed = {axis.name for axis, a, b in zip(model.structure.axes, before, after, strict=True) if a < b}
            assert len(changed) == 1
        assert len(set(sizes)) == len(sizes)
    assert model.widths_between(0.9999, 1.0) == {}
    for width in model.widths_between(WIDTHS[2], WIDTHS[1]).values():  # all of these can be had
        assert model.extract(width, fresh_statistics=True)(x).shape == model(x).shape


def test_slimmable_layers_that_are_not_named_stay_whole() -> None:
    model, x = make("lenet")
    narrow = model.extract({"3": 0.5, "9": 0.25})
    assert [part.weight.shape[0] for part in narrow if hasattr(part, "weight")] == [6, 8, 120, 21, 10]
    assert torch.equal(model(x, width={}), model.full(x))
    assert model.plan({"0": 0.5, "3": 0.5, "7": 0.5, "9": 0.5}).shapes == model.plan(0.5).shapes


@pytest.mark.parametrize(
    ("width", "message"),
    [
        ({"4": 0.5}, r"'4' names no layer .* \['0', '3', '7', '9'\]"),
        ({"0": 0.5, "3": 0.2}, r"0\.2 for layer '3' is outside \[0\.25, 1\]"),
        ({"9": float("nan")}, "nan for layer '9' is outside"),
    ],
)
def test_slimmable_wrong_widths_of_layers_are_refused_by_name(width: dict[str, float], message: str) -> None:
    model, x = make("lenet")
    for call in (lambda: model(x, width=width), lambda: model.plan(width), lambda: model.extract(width)):
        with pytest.raises(InputError, match=message):
            call()


def test_slimmable_concatenation_is_cut_in_each_of_its_parts() -> None:
    model = SlimmableModel(Dense(), [1, 0.5], torch.zeros(1, 3, 8, 8))
    _, columns, *_ = model.plan(0.5).indices["third.2.weight"]
    assert columns.tolist() == [0, 1, 2, 3, 8, 9, 10]  # 4 of the first 8 channels, 3 of the next 6


def test_slimmable_groups_stay_whole() -> None:
    model = SlimmableModel(grouped(), [1, 0.1], torch.zeros(1, 3, 8, 8))
    for width in model.distinct_widths():
        narrow = model.extract(width)
        assert narrow[1].num_channels == 4 * narrow[1].num_groups
        assert narrow[3].in_channels == narrow[3].out_channels == 3 * narrow[3].groups
    assert model.structure.axes[0].unit == 12  # groups of 4 and groups of 3 on the same channels


def test_slimmable_distinct_widths_agree_with_a_dense_scan() -> None:
    model = SlimmableModel(lenet(), [1, 0.25], torch.zeros(1, 1, 28, 28))
    shapes = {}
    for step in range(25_000, 100_001):
        shapes[tuple(model.structure.sizes(step / 100_000))] = step / 100_000
    widths = model.distinct_widths()
    assert [model.structure.sizes(width) for width in widths] == list(shapes)
    assert widths[-1] == 1.0
    for width, scanned in zip(widths, shapes.values(), strict=True):
        assert 0 <= width - scanned < 1e-5
    assert model.distinct_widths(0.9) == tuple(width for width in widths if width >= 0.9)


@pytest.mark.parametrize("width", [0.2, 1.01, -1.0, float("nan"), float("inf")])
def test_slimmable_widths_out_of_range_are_refused(width: float) -> None:
    model, x = make("gated")
    for call in (lambda: model(x, width=width), lambda: model.plan(width), lambda: model.extract(width)):
        with pytest.raises(InputError, match=rf"{width} is outside \[0\.25, 1\]"):
            call()


def test_slimmable_full_width_is_the_full_network_and_there_are_no_other_parameters() -> None:
    model, x = make("residual")
    assert torch.equal(model(x), model.full(x))
    assert [name for name, _ in model.named_parameters()] == [f"full.{n}" for n, _ in model.full.named_parameters()]
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in Residual().parameters())


def test_slimmable_saved_extracts_hold_nothing_else() -> None:
    model, x = make("lenet")
    narrow = model.extract(0.25)
    file = io.BytesIO()
    torch.save(narrow.state_dict(), file)
    assert file.tell() < 4 * model.plan(0.25).numel() + 6_000
    withheld = model.full[7].weight[-1, -1].detach().numpy().tobytes()
    assert withheld not in file.getvalue()
    with torch.no_grad():
        next(iter(narrow.parameters())).zero_()
    assert not torch.equal(narrow(x), model(x, width=0.25))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_slimmable_copies_compute_alike_and_share_nothing(duplicate) -> None:
    model, x = make("residual")
    twin = duplicate(model)
    assert torch.equal(twin(x, width=0.3), model(x, width=0.3))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not torch.equal(twin(x, width=0.3), model(x, width=0.3))


def test_slimmable_modes_of_parts_are_followed() -> None:
    model = SlimmableModel(
        nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2)), [1, 0.5], torch.zeros(1, 4)
    )
    x = torch.ones(64, 4)
    assert model(x, width=0.5).unique(dim=0).shape[0] > 1
    model.full[1].eval()
    assert model(x, width=0.5).unique(dim=0).shape[0] == 1


class Fixed(nn.Module):
    """Its code fixes a size, so that its first layer must stay whole."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 8), nn.Linear(2, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.third(self.second(self.first(x).view(-1, 4, 2).sum(1)).relu())


def test_slimmable_layer_that_cannot_become_narrower_is_named_with_the_reason() -> None:
    with pytest.warns(UserWarning, match=r"stay whole at every width\. layer 'first': .*'\[-1, 4, 2\]' is invalid"):
        model = SlimmableModel(Fixed(), [1, 0.5], torch.zeros(1, 4))
    assert [axis.name for axis in model.structure.axes] == ["second"]
    assert "stays whole: first: " in model.describe()


def test_slimmable_network_that_becomes_no_narrower_is_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Identity())
    with pytest.raises(InputError, match="none of its layers can become narrower"):
        SlimmableModel(net, [1, 0.5], torch.zeros(1, 4))
    SlimmableModel(net, [1], torch.zeros(1, 4))  # nothing narrower is asked for


def test_slimmable_input_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"example_input: .*\(1, 5\).*layer '0'"):
        SlimmableModel(nn.Sequential(nn.Linear(4, 8)), [1, 0.5], torch.zeros(1, 5))
