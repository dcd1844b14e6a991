import pytest
import torch
from torch import nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel, cost, width_for


def make() -> SlimmableModel:
    net = nn.Sequential(nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 10))
    return SlimmableModel(net, [1, 0.3], torch.zeros(1, 1, 8, 8))


def test_costs_equal_the_hand_count() -> None:
    for width in make().distinct_widths():
        kept = round(6 * width)
        counted = cost(make(), width)
        parameters = kept * 25 + kept + 2 * kept + kept * 16 * 10 + 10
        assert counted.parameters == parameters
        assert counted.multiply_adds == kept * 25 * 16 + kept * 16 * 10
        assert counted.bytes == 4 * parameters + 4 * 2 * kept + 8


@pytest.mark.parametrize("measure", ["parameters", "multiply_adds", "bytes"])
def test_the_widest_that_fits_is_found(measure: str) -> None:
    model = make()
    widths = model.distinct_widths()
    costs = [getattr(cost(model, width), measure) for width in widths]
    for budget in {*costs, *(c + 1 for c in costs)}:
        assert width_for(model, measure=measure, budget=budget) == widths[sum(c <= budget for c in costs) - 1]
    with pytest.raises(InputError, match="smallest width"):
        width_for(model, measure=measure, budget=costs[0] - 1)


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(InputError, match="'flops' is unknown"):
        width_for(make(), measure="flops", budget=1)
