import pytest
import torch
from torch import nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import (
    SlimmableModel,
    order_by_importance,
    sandwich_step,
    without_running_statistics,
)

from .networks import Residual


def make() -> tuple[SlimmableModel, list[torch.Tensor]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    return SlimmableModel(net, [1, 0.5, 0.25], torch.zeros(1, 4)), [torch.randn(6, 4) for _ in range(3)]


def test_norm_recalibration_is_the_average_over_the_batches_and_changes_nothing_else() -> None:
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


def test_norm_statistics_are_private_to_a_width() -> None:
    model, batches = make()
    model.recalibrate(batches)
    before = model.eval()(batches[0], width=0.25)
    model.train()
    model(batches[1] * 100, width=0.5)
    assert torch.equal(model.eval()(batches[0], width=0.25), before)


def test_norm_evaluating_a_width_without_statistics_raises_until_it_is_recalibrated() -> None:
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


def test_norm_widths_that_keep_all_channels_are_the_full_network() -> None:
    model, batches = make()
    model.recalibrate(batches, [0.99, 1])
    assert model.full[1].num_batches_tracked == len(batches)
    assert torch.equal(model.eval()(batches[0], width=0.99), model.full(batches[0]))


def test_norm_fresh_network_can_be_evaluated_on_its_grid() -> None:
    model, batches = make()
    model.eval()
    assert torch.equal(model(batches[0], width=0.5), model.extract(0.5)(batches[0]))


def test_norm_checkpoint_brings_the_statistics_of_its_widths() -> None:
    model, batches = make()
    model.recalibrate(batches, [1, 0.5, 0.7])
    other = SlimmableModel(make()[0].full, [1, 0.8, 0.5], torch.zeros(1, 4))
    other.load_state_dict(model.state_dict())
    for width in (1, 0.5, 0.7):
        assert torch.equal(model.eval()(batches[0], width=width), other.eval()(batches[0], width=width))
    with pytest.raises(InputError, match="recalibrate"):
        other(batches[0], width=0.8)
    assert set(other.state_dict()) == set(model.state_dict())


def test_norm_recalibration_without_data_is_refused() -> None:
    model, batches = make()
    model.recalibrate(batches)
    before = model.eval()(batches[0], width=0.5)
    with pytest.raises(InputError, match="batches"):
        model.recalibrate([])
    assert torch.equal(model(batches[0], width=0.5), before)
    assert SlimmableModel(nn.Sequential(nn.Linear(2, 2)), [1], torch.zeros(1, 2)).has_statistics is False


def private(widths: tuple[float, ...] = (1.0, 0.5, 0.25)) -> tuple[SlimmableModel, torch.Tensor]:
    torch.manual_seed(0)
    model = SlimmableModel(Residual(), widths, torch.zeros(1, 3, 8, 8), affine="private")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # no two widths alike
    return model, torch.randn(6, 3, 8, 8)


def test_norm_private_affine_parameters_are_trained_and_handed_out_with_their_width_alone() -> None:
    model, x = private()
    narrow = model.extract(0.5, fresh_statistics=True)
    names = {name for name, _ in model.full.named_parameters()}
    affine = {f"{path}.{key}" for path, part in norms(model.full) for key, _ in part.named_parameters()}
    assert names - affine == model.plan(0.5).indices.keys()
    sandwich_step(model, x, torch.arange(6) % 4, [0.5], loss=lambda outputs, _: outputs.square().sum())
    narrow(x).square().sum().backward()
    alone = {name: parameter.grad for name, parameter in narrow.named_parameters()}
    expected = {name: torch.zeros_like(model.full.get_parameter(name)) for name in names - affine}
    model.plan(0.5).put(expected, alone)
    for name, parameter in model.full.named_parameters():
        torch.testing.assert_close(parameter.grad, expected.get(name))  # None for the affine ones of the full width
    own, other = (model.affines.get(model.structure.sizes(width)) for width in (0.5, 0.25))
    assert own.keys() == other.keys() == affine
    for name in affine:
        torch.testing.assert_close(own[name].grad, alone[name])
        assert other[name].grad is None
    model.eval()
    assert torch.equal(model(x, width=0.5), model.extract(0.5)(x))
    assert f"{sum(p.numel() for p in narrow.parameters()):,}" in model.describe()


def test_norm_private_affine_parameters_exist_for_the_grid_only() -> None:
    model, x = private()
    assert model.distinct_widths() == (0.25, 0.5, 1.0)
    assert model.widths_between(0.5, 1.0) == {}
    for call in (lambda: model(x, width=0.6), lambda: model.extract(0.6), lambda: model.recalibrate([x], [0.6])):
        with pytest.raises(InputError, match=r"0\.6 has no affine parameters.*\[1\.0, 0\.5, 0\.25\].*shared"):
            call()
    with pytest.raises(InputError, match=r"affine.*has none"):
        SlimmableModel(nn.Sequential(nn.Linear(2, 2)), [1], torch.zeros(1, 2), affine="private")


def test_norm_private_affine_parameters_are_stored_and_start_anew_after_an_ordering() -> None:
    model, x = private()
    other = private()[0]
    sandwich_step(other, x, torch.zeros(6, dtype=torch.long), other.widths)
    torch.optim.SGD(other.parameters(), lr=0.1).step()
    model.load_state_dict(other.state_dict())
    model.recalibrate([x])
    other.recalibrate([x])
    assert torch.equal(model.eval()(x, width=0.25), other.eval()(x, width=0.25))
    order_by_importance(model)
    shared = SlimmableModel(model.full, model.widths, x[:1])
    for each in (model, shared):
        each.recalibrate([x])
    assert torch.equal(model(x, width=0.25), shared(x, width=0.25))


def norms(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, nn.BatchNorm2d)]


def test_norm_without_running_statistics_evaluation_normalises_by_the_batch() -> None:
    torch.manual_seed(0)
    network = Residual()
    static = without_running_statistics(network)
    assert set(static.state_dict()) == {name for name, _ in network.named_parameters()}
    model, x = SlimmableModel(static, [1, 0.5], torch.zeros(1, 3, 8, 8)), torch.randn(6, 3, 8, 8)
    assert not model.has_statistics
    model.recalibrate([])  # nothing to do
    assert torch.equal(model.eval()(x, width=0.5), model.extract(0.5)(x))
    network.load_state_dict(static.state_dict(), strict=False)
    torch.testing.assert_close(model(x), network.train()(x))
    assert not torch.allclose(model(x)[:3], model(x[:3]))


def test_norm_statistics_loaded_without_a_counter_count_as_seen() -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    trained = build()
    trained(torch.randn(16, 4) + 3)
    saved = {name: tensor for name, tensor in trained.state_dict().items() if "num_batches" not in name}
    network = build()
    network.load_state_dict(saved, strict=False)
    model = SlimmableModel(network, [1, 0.5], torch.zeros(1, 4)).eval()
    with pytest.raises(InputError, match="recalibrate"):
        model(torch.zeros(2, 4), width=0.5)
    with pytest.raises(InputError, match="recalibrate"):
        model.extract(0.5)
    model(torch.zeros(2, 4))  # the full width has statistics


def test_norm_banks_loaded_without_a_counter_are_the_statistics_of_their_width() -> None:
    model, batches = make()
    model.recalibrate(batches)
    saved = {name: tensor for name, tensor in model.state_dict().items() if "num_batches" not in name}
    loaded = make()[0]
    loaded.load_state_dict(saved, strict=False)
    for width in model.widths:
        assert torch.equal(loaded.eval()(batches[0], width=width), model.eval()(batches[0], width=width))


def test_norm_recalibration_gives_a_last_sample_to_the_batch_before() -> None:
    model, (first, second, third) = make()
    model.recalibrate([first, second, third[:1]])
    expected = make()[0]
    expected.recalibrate([first, torch.cat([second, third[:1]])])
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, expected.get_buffer(name))


def test_norm_recalibration_on_a_single_sample_gives_finite_outputs() -> None:
    model, batches = make()
    model.recalibrate([batches[0][:1]])
    torch.testing.assert_close(model.full[1].running_mean, model.full[0](batches[0][:1])[0])
    assert all(model.eval()(batches[1], width=width).isfinite().all() for width in model.widths)
