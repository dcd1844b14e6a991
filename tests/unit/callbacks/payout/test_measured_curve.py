from collections.abc import Callable, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aequa_lightning.callbacks.payout import measured_curve
from aequa_lightning.callbacks.payout.measured_curve import MeasuredCurve, measure_curve, per_layer_widths
from aequa_lightning.modules.score import Scored
from aequa_lightning.rewards import offered_widths
from aequa_lightning.slimmable import SlimmableModel, Width

SAMPLES = 1000


def pretend(network: SlimmableModel, accuracy: Callable[[Width], float]) -> Any:
    """Return what stands for a run whose widths have given accuracies."""

    def scores(widths: Sequence[Width], samples: range, *, on_measured: object) -> list[Scored]:
        counts = [round(SAMPLES * accuracy(width)) for width in widths]
        return [Scored(count / SAMPLES, (torch.arange(SAMPLES) < count).double()[:, None]) for count in counts]

    return SimpleNamespace(
        classifier=SimpleNamespace(network=network),
        evaluator=SimpleNamespace(scores=scores),
        data=SimpleNamespace(validation=lambda: range(SAMPLES)),
        grid=network.widths,
        widths=[1.0],
        show=lambda step, done, total: None,
    )


def network() -> SlimmableModel:
    sizes, layers = (3, 4, 8, 12), []
    for read, kept in pairwise(sizes):
        layers += [nn.Linear(read, kept), nn.ReLU()]
    return SlimmableModel(nn.Sequential(*layers, nn.Linear(12, 2)), [1, 0.25], torch.zeros(1, 3))


def test_where_more_parameters_are_better_every_step_is_as_small_as_one_layer() -> None:
    slim = network()

    def accuracy(width: Width) -> float:
        return slim.plan(width).numel() / slim.plan(1.0).numel()

    run = pretend(slim, accuracy)
    measured = measure_curve(run, resolution=0.0)
    assert measured.accuracy.keys() == set(slim.distinct_widths())
    uniform = offered_widths(measured.accuracy)
    per_layer_widths(run, measured, resolution=0.0)
    filled = offered_widths(measured.accuracy)
    expected = {
        **{width: accuracy(width) for width in slim.distinct_widths()},
        **{
            number: accuracy(width)
            for pair in pairwise(slim.distinct_widths())
            for number, width in slim.widths_between(*pair).items()
        },
    }
    assert measured.accuracy == pytest.approx(expected, abs=0.5 / SAMPLES)
    assert len(expected) > len(uniform.widths) == len(slim.distinct_widths())
    assert np.diff(filled.accuracies).max() < np.diff(uniform.accuracies).max()


@pytest.mark.parametrize("seed", range(20))
def test_filling_takes_nothing_off_what_is_on_offer(seed: int) -> None:
    slim, rng = network(), np.random.default_rng(seed)
    values: dict[tuple[int, ...], float] = {}

    def accuracy(width: Width) -> float:
        sizes = slim.structure.sizes(width)
        return values.setdefault(sizes, min(1.0, sum(sizes) / 24 * 0.8 + 0.2 * rng.random()))

    run = pretend(slim, accuracy)
    measured = measure_curve(run, resolution=0.01)
    before, uniform = offered_widths(measured.accuracy).by_width(), dict(measured.accuracy)
    per_layer_widths(run, measured, resolution=0.01)
    after = offered_widths(measured.accuracy).by_width()
    added = measured.accuracy.keys() - uniform.keys()
    assert after.keys() == before.keys() | added
    assert added <= measured.layers.keys()
    for number in added:
        assert measured.accuracy[number] == round(SAMPLES * accuracy(measured.width(number))) / SAMPLES
    # What is wider by its number holds all that the narrower holds.
    sizes = [slim.structure.sizes(measured.width(number)) for number in sorted(measured.accuracy)]
    assert all((np.array(wide) >= np.array(narrow)).all() for narrow, wide in pairwise(sizes))


def test_widths_that_the_network_cannot_have_are_left_out() -> None:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(torch.cat(x.view(len(x), 2, x.shape[1] // 2).unbind(1), 1))

    slim = SlimmableModel(Halved(), [1, 0.25], torch.zeros(1, 3))
    measured = measure_curve(pretend(slim, lambda width: 0.9 * float(width)), resolution=0.0)
    assert sorted(measured.accuracy) == [0.25, 0.5, 0.75, 1.0]


def test_the_samples_of_a_width_are_looked_at_once() -> None:
    asked: list[Width] = []
    slim = network()
    run = pretend(slim, lambda width: asked.append(width) or 0.5)
    measured = MeasuredCurve(layers={0.3: {"0": 0.5}})
    first, second = measured.scores(run, [0.3, 1.0]), measured.scores(run, [1.0, 0.3])
    assert asked == [{"0": 0.5}, 1.0]
    assert first == second[::-1]


def test_a_difference_of_one_sample_is_not_refined() -> None:
    slim = network()
    full = slim.plan(1.0).numel()

    def one_sample_better(width: Width) -> float:
        return (SAMPLES - 1 + (slim.plan(width).numel() == full)) / SAMPLES

    measured = measure_curve(pretend(slim, one_sample_better), resolution=0.0)
    assert measured.accuracy.keys() == set(slim.widths)


def test_no_more_widths_are_measured_than_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_curve, "MAX_MEASURED", 3)
    slim, rng, asked = network(), np.random.default_rng(0), []
    run = pretend(slim, lambda width: asked.append(width) or rng.random())
    measured = measure_curve(run, resolution=0.0)
    assert len(asked) == len(measured.accuracy) == len(slim.widths) + 3 < len(slim.distinct_widths())
    per_layer_widths(run, measured, resolution=0.0)
    assert len(asked) <= len(slim.widths) + 6
