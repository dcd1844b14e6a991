import pytest
import torch
from torch import nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import SlimmableModel


def make() -> tuple[SlimmableModel, list[torch.Tensor]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    return SlimmableModel(net, [1, 0.5, 0.25], torch.zeros(1, 4)), [torch.randn(6, 4) for _ in range(3)]


def test_recalibration_is_the_average_over_the_batches_and_changes_nothing_else() -> None:
    model, batches = make()
    for batch in batches:
        model(batch, width=0.5)  # statistics that have to be forgotten
    model.full[3].eval()
    modes = [module.training for module in model.modules()]
    weights = [parameter.clone() for parameter in model.parameters()]
    model.recalibrate(iter(batches))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(*pair) for pair in zip(weights, model.parameters(), strict=True))
    assert model.full[1].momentum == 0.1
    for width in model.widths:
        linear, normed = model.extract(width)[:2]
        hidden = [linear(batch) for batch in batches]
        torch.testing.assert_close(normed.running_mean, torch.stack([h.mean(0) for h in hidden]).mean(0))
        torch.testing.assert_close(normed.running_var, torch.stack([h.var(0) for h in hidden]).mean(0))
        assert normed.num_batches_tracked == 3


def test_statistics_are_private_to_a_width() -> None:
    model, batches = make()
    model.recalibrate(batches)
    before = model.eval()(batches[0], width=0.25)
    model.train()
    model(batches[1] * 100, width=0.5)
    assert torch.equal(model.eval()(batches[0], width=0.25), before)


def test_evaluating_a_width_without_statistics_raises_until_it_is_recalibrated() -> None:
    model, batches = make()
    model(batches[0])
    model.eval()
    for width in (0.5, 0.6, {"0": 0.3}):  # one of the grid, one between, one of a layer
        with pytest.raises(InputError, match="recalibrate"):
            model(batches[0], width=width)
        with pytest.raises(InputError, match="recalibrate"):
            model.extract(width)
        model.extract(width, fresh_statistics=True)
        model.recalibrate(batches, [width])
        assert torch.equal(model(batches[0], width=width), model.extract(width)(batches[0]))


def test_widths_that_keep_all_channels_are_the_full_network() -> None:
    model, batches = make()
    model.recalibrate(batches, [0.99, 1])
    assert model.full[1].num_batches_tracked == len(batches)
    assert torch.equal(model.eval()(batches[0], width=0.99), model.full(batches[0]))


def test_a_fresh_network_can_be_evaluated_on_its_grid() -> None:
    model, batches = make()
    model.eval()
    assert torch.equal(model(batches[0], width=0.5), model.extract(0.5)(batches[0]))


def test_a_checkpoint_brings_the_statistics_of_its_widths() -> None:
    model, batches = make()
    model.recalibrate(batches, [1, 0.5, 0.7])
    other = SlimmableModel(make()[0].full, [1, 0.8, 0.5], torch.zeros(1, 4))
    other.load_state_dict(model.state_dict())
    for width in (1, 0.5, 0.7):
        assert torch.equal(model.eval()(batches[0], width=width), other.eval()(batches[0], width=width))
    with pytest.raises(InputError, match="recalibrate"):
        other(batches[0], width=0.8)
    assert set(other.state_dict()) == set(model.state_dict())


def test_recalibration_without_data_is_refused() -> None:
    model, batches = make()
    model.recalibrate(batches)
    before = model.eval()(batches[0], width=0.5)
    with pytest.raises(InputError, match="batches"):
        model.recalibrate([])
    assert torch.equal(model(batches[0], width=0.5), before)
    assert SlimmableModel(nn.Sequential(nn.Linear(2, 2)), [1], torch.zeros(1, 2)).has_statistics is False
