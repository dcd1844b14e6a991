from itertools import pairwise

import pytest
import torch
from torch import nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel, cost, width_for

from .networks import lenet


def make() -> SlimmableModel:
    net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 10))
    return SlimmableModel(net, [1, 0.3], torch.zeros(1, 1, 8, 8))


def test_budget_costs_equal_the_hand_count() -> None:
    for width in make().distinct_widths():
        kept = round(6 * width)
        counted = cost(make(), width)
        parameters = kept * 25 + kept + 2 * kept + kept * 16 * 10 + 10
        assert counted.parameters == parameters
        assert counted.multiply_adds == kept * 25 * 16 + kept * 16 * 10
        assert counted.bytes == 4 * parameters + 4 * 2 * kept + 8


def test_budget_attention_and_recurrences_are_counted() -> None:
    class Last(nn.Module):
        def forward(self, x: tuple[torch.Tensor, object]) -> torch.Tensor:
            return x[0][:, -1]

    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    recurrent = nn.Sequential(nn.LSTM(6, 16, 2, bidirectional=True, batch_first=True), Last(), nn.Linear(32, 3))
    for width in (1.0, 0.5):
        with pytest.warns(UserWarning, match="'self_attn'"):  # its heads follow the network's input
            encoder = SlimmableModel(layer, [1, 0.5], torch.zeros(1, 10, 32))
        hidden, units = int(64 * width), int(16 * width)
        assert cost(encoder, width).multiply_adds == 10 * 32 * (4 * 32 + 2 * hidden) + 2 * 10 * 10 * 32
        first, second = 4 * units * (6 + units), 4 * units * (2 * units + units)
        found = cost(SlimmableModel(recurrent, [1, 0.5], torch.zeros(1, 10, 6)), width).multiply_adds
        assert found == 10 * 2 * (first + second) + 2 * units * 3


@pytest.mark.parametrize("measure", ["parameters", "multiply_adds", "bytes"])
def test_budget_widest_that_fits_is_found(measure: str) -> None:
    model = make()
    widths = model.distinct_widths()
    costs = [getattr(cost(model, width), measure) for width in widths]
    for budget in {*costs, *(c + 1 for c in costs)}:
        assert width_for(model, measure=measure, budget=budget) == widths[sum(c <= budget for c in costs) - 1]
    with pytest.raises(InputError, match="smallest width"):
        width_for(model, measure=measure, budget=costs[0] - 1)


@pytest.mark.parametrize("measure", ["parameters", "multiply_adds", "bytes"])
def test_budget_rest_of_a_budget_is_used_up_layer_by_layer(measure: str) -> None:
    torch.manual_seed(0)
    model = SlimmableModel(lenet(), [1, 0.25], torch.zeros(1, 1, 28, 28))
    low, high = next(pair for pair in pairwise(model.distinct_widths()) if len(model.widths_between(*pair)) == 3)
    chain = [low, *model.widths_between(low, high).values(), high]
    costs = [count(model.extract(width))[measure] for width in chain]
    assert sorted(set(costs)) == costs
    for budget in {*costs, *(c + 1 for c in costs), *(c - 1 for c in costs[1:])}:
        width = width_for(model, measure=measure, budget=budget, per_layer=True)
        assert width == [one for one, spent in zip(chain, costs, strict=True) if spent <= budget][-1]
        assert getattr(cost(model, width), measure) == count(model.extract(width))[measure]


def count(network: nn.Module) -> dict[str, int]:
    """Count what a chain of layers costs from the shapes that pass through it."""
    x, multiply_adds = torch.zeros(1, 1, 28, 28), 0
    for layer in network:
        x = layer(x)
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            multiply_adds += layer.weight.numel() * (x[0, 0].numel() if x.ndim == 4 else 1)
    parameters = sum(p.numel() for p in network.parameters())
    return {"parameters": parameters, "multiply_adds": multiply_adds, "bytes": 4 * parameters}


def test_budget_unknown_measure_is_refused() -> None:
    with pytest.raises(InputError, match="'flops' is unknown"):
        width_for(make(), measure="flops", budget=1)
