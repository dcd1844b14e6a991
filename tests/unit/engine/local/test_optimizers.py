from functools import partial
from typing import Any

import pytest
import torch

from aequa_lightning.engine.local.optimizers import (
    check_schedule,
    configured_optimizers,
    options_by_round,
    unpack_optimizers,
)
from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import SlimmableClassifier


def test_schedule_that_waits_for_a_metric_is_refused() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    with pytest.raises(InputError, match="ReduceLROnPlateau"):
        unpack_optimizers({"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "loss"}})
    with pytest.raises(InputError, match="one optimizer"):
        unpack_optimizers(([optimizer, optimizer], []))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(InputError, match="at most one lr_scheduler"):
        unpack_optimizers(([optimizer], [scheduler, scheduler]))
    assert unpack_optimizers(([optimizer], [scheduler])) == (optimizer, scheduler)


def classifier(configure: Any) -> SlimmableClassifier:
    model = SlimmableClassifier(3, (5,), backbone="mlp", backbone_options={"hidden": [4]}, widths=(1.0,))
    model.configure_optimizers = lambda: configure(model.parameters())  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize(
    ("configure", "message"),
    [
        (lambda parameters: torch.optim.SGD(parameters, lr=-1), "Invalid learning rate: -1"),
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1, nesterov=True), "Nesterov"),
        (lambda parameters: torch.optim.SparseAdam(parameters), "SparseAdam"),
        (lambda parameters: torch.optim.LBFGS(parameters), "LBFGS"),
    ],
)
def test_optimizer_of_an_unsupported_kind_is_refused(configure: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"optimizer.*{message}"):
        configured_optimizers(classifier(configure))


@pytest.mark.parametrize(
    ("kind", "options"), [("OneCycleLR", {"max_lr": 0.1, "total_steps": 4}), ("StepLR", {"step_size": 0})]
)
def test_schedule_that_ends_before_the_run_is_refused(kind: str, options: dict[str, float]) -> None:
    def configure(parameters: Any) -> Any:
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        return [optimizer], [getattr(torch.optim.lr_scheduler, kind)(optimizer, **options)]

    with pytest.raises(InputError, match=f"lr_scheduler: {kind} cannot be stepped 5 times"):
        check_schedule(classifier(configure), 5)


SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("ConstantLR", {}),
    ("CosineAnnealingLR", {"T_max": 6}),
    ("CosineAnnealingWarmRestarts", {"T_0": 2}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 2}),
    ("ExponentialLR", {"gamma": 0.5}),
    ("LambdaLR", {"lr_lambda": lambda number: 1 / (1 + number)}),
    ("LinearLR", {"total_iters": 3}),
    ("MultiStepLR", {"milestones": [2, 4]}),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 6}),
    ("PolynomialLR", {"total_iters": 6}),
    ("StepLR", {"step_size": 2}),
]


def in_sequence(optimizer: torch.optim.Optimizer) -> Any:
    kinds = torch.optim.lr_scheduler
    return kinds.SequentialLR(optimizer, [kinds.LinearLR(optimizer), kinds.ExponentialLR(optimizer, 0.5)], [3])


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize(
    "build",
    [*(partial(getattr(torch.optim.lr_scheduler, kind), **options) for kind, options in SCHEDULES), in_sequence],
    ids=[*(kind for kind, _ in SCHEDULES), "SequentialLR"],
)
def test_schedule_options_by_round_are_those_of_stepping_after_each(build: Any, as_tensor: bool) -> None:
    rate = torch.tensor(0.1) if as_tensor else 0.1

    def make() -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=rate.clone() if as_tensor else rate)
        return optimizer, build(optimizer)

    optimizer, scheduler = make()
    found = options_by_round(optimizer, scheduler, 6)
    for again in (make(), (optimizer, scheduler)):  # what was asked is where it was
        for options in found:
            assert again[0].param_groups[0]["lr"] == options[0]["lr"]
            assert again[0].param_groups[0]["betas"] == options[0]["betas"]
            again[0].step()
            again[1].step()


@pytest.mark.parametrize("pace", [{"interval": "step"}, {"frequency": 2}])
def test_schedule_stepped_at_another_interval_is_refused(pace: dict[str, Any]) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    configured = {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **pace}}
    with pytest.raises(InputError, match=r"lr_scheduler: interval=.*once after every round"):
        unpack_optimizers(configured)


def test_schedule_check_leaves_the_scheduler_unchanged() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=6)
    before = scheduler.state_dict(), optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]
    check_schedule(classifier(lambda _: ([optimizer], [scheduler])), 5)
    assert (scheduler.state_dict(), optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == before
