from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import torch
from torch import nn
from torch.nn import functional

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import Distillation, SandwichRule, SlimmableModel, sandwich_step

GRID = (1.0, 0.875, 0.75, 0.5, 0.25)


def test_sandwich_draws_are_within_the_grid_and_repeat() -> None:
    draws = [SandwichRule(seed=3).draw_widths(GRID, step=step) for step in range(200)]
    assert draws == [SandwichRule(seed=3).draw_widths(GRID, step=step) for step in range(200)]
    for draw in draws:
        assert draw[0] == 1.0
        assert draw[-1] == 0.25
        assert len(set(draw)) == 4
        assert set(draw) <= set(GRID)
    # Each of the three middle widths is left out in about a third of the steps.
    for width in GRID[1:-1]:
        assert 40 < sum(width not in draw for draw in draws) < 95
    assert draws != [SandwichRule(seed=4).draw_widths(GRID, step=step) for step in range(200)]


@pytest.mark.parametrize("grid", [(1.0,), (1.0, 0.5), (1.0, 0.75, 0.5)])
def test_sandwich_takes_small_grids_whole(grid: tuple[float, ...]) -> None:
    assert SandwichRule().draw_widths(grid, step=0) == grid


def slim() -> SlimmableModel:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    return SlimmableModel(net, [1, 0.5, 0.25], torch.zeros(1, 5))


@pytest.mark.parametrize(
    "distillation",
    [
        None,
        Distillation(),
        Distillation(0.7, temperature=3.0),
        Distillation(0.7, teacher=0.25),
        # A teacher that is not among the widths of the step.
        Distillation(0.7, teacher=0.7),
        Distillation(teacher=1.0),
    ],
)
def test_sandwich_gradients_equal_the_hand_summed_ones(distillation: Distillation | None) -> None:
    model = slim()
    x, y = torch.randn(7, 5, dtype=torch.double), torch.arange(7) % 3
    losses = sandwich_step(model, x, y, model.widths, rule=SandwichRule(distillation=distillation))

    wide_teaches = distillation is not None and distillation.teacher is None
    teacher = model(x, width=(distillation and distillation.teacher) or 1.0).detach()
    total = torch.zeros((), dtype=torch.double)
    for width in model.widths:
        outputs = model(x, width=width)
        hard = functional.cross_entropy(outputs, y)
        if distillation is None or (width == 1.0 if wide_teaches else width <= (distillation.teacher or 1.0)):
            value = hard
        else:
            t, h = distillation.temperature, 1 - distillation.weight
            p, q = (teacher / t).softmax(1), (outputs / t).softmax(1)
            value = h * hard + (1 - h) * t**2 * (p * (p / q).log()).sum(1).mean()
        torch.testing.assert_close(losses[width], value.detach())
        total = total + value / len(model.widths)
    expected = torch.autograd.grad(total, list(model.parameters()))
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_sandwich_sum_is_the_mean_times_the_number_of_widths() -> None:
    x, y = torch.randn(7, 5, dtype=torch.double), torch.arange(7) % 3
    mean, total = slim(), slim()
    losses = sandwich_step(mean, x, y, mean.widths)
    assert sandwich_step(total, x, y, total.widths, rule=SandwichRule(reduction="sum")) == losses
    for one, other in zip(mean.parameters(), total.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(other.grad, 3 * one.grad)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({"full_width_loss_weight": 0.75}, (0.75, 0.125, 0.125)),
        ({"smallest_width_loss_weight": 0.5}, (0.25, 0.25, 0.5)),
        ({"full_width_loss_weight": 0.5, "smallest_width_loss_weight": 0.3}, (0.5, 0.2, 0.3)),
    ],
)
def test_sandwich_ends_may_have_larger_shares_of_the_gradient(
    reduction: Literal["mean", "sum"], options: dict[str, float], shares: tuple[float, ...]
) -> None:
    x, y = torch.randn(7, 5, dtype=torch.double), torch.arange(7) % 3
    model = slim()
    losses = [functional.cross_entropy(model(x, width=width), y) for width in model.widths]
    total = sum((share * loss for share, loss in zip(shares, losses, strict=True)), torch.zeros(()))
    expected = torch.autograd.grad(total, list(model.parameters()))
    sandwich_step(model, x, y, model.widths, rule=SandwichRule(reduction=reduction, **options))
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient * (3 if reduction == "sum" else 1))


def test_sandwich_synchronises_with_the_last_width_only() -> None:
    model = slim()
    held: list[bool] = []
    inside = False

    @contextmanager
    def no_sync() -> Iterator[None]:
        nonlocal inside
        inside = True
        yield
        inside = False

    def forward(x: torch.Tensor, width: float) -> torch.Tensor:
        held.append(inside)
        return model(x, width=width)

    def backward(loss: torch.Tensor) -> None:
        held.append(inside)
        loss.backward()

    x, y = torch.randn(2, 5, dtype=torch.double), torch.tensor([0, 1])
    sandwich_step(forward, x, y, (1.0, 0.5, 0.25), backward=backward, no_sync=no_sync)
    assert held == [True, True, True, True, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_random_widths": -1}, r"model\.num_random_widths=-1 is negative"),
        ({"reduction": "none"}, r"model\.reduction='none'"),
        ({"full_width_loss_weight": 1}, r"model\.full_width_loss_weight=1 is not between"),
        ({"smallest_width_loss_weight": 0}, r"model\.smallest_width_loss_weight=0 is not between"),
        ({"full_width_loss_weight": 0.6, "smallest_width_loss_weight": 0.4}, "leave nothing for the others"),
    ],
)
def test_sandwich_rule_refuses_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SandwichRule(**options)


@pytest.mark.parametrize(("options", "key"), [({"temperature": 0.0}, "temperature"), ({"weight": 1.5}, "distillation")])
def test_sandwich_distillation_refuses_impossible_options(options: dict[str, float], key: str) -> None:
    with pytest.raises(InputError, match=rf"model\.{key}="):
        Distillation(**options)


def test_sandwich_distillation_of_several_networks_is_that_of_each() -> None:
    student, teacher = torch.randn(2, 4, 5, 3, 6, dtype=torch.double)
    hard, rule = torch.rand(4, dtype=torch.double), Distillation(0.7, temperature=2.0)
    together = rule.loss(student, teacher, hard)
    torch.testing.assert_close(
        together, torch.stack([rule.loss(*each) for each in zip(student, teacher, hard, strict=True)])
    )
