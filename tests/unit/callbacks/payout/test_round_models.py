"""What everybody is sent in a round, where not everybody's update counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from aequa_lightning.callbacks.payout.round_models import deliver
from aequa_lightning.engine.callback import RoundResult
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.run import Run
from aequa_lightning.mechanisms.payment import Layer, Masking, Mixing, Payment, RoundContext, ServerModel
from aequa_lightning.mechanisms.targets import Everything, Relative, Target

Finish = Callable[..., RoundResult]


def pay(
    run: Run, result: RoundResult, target: Target, payment: Payment, *, contributions: Sequence[float]
) -> Tensor | None:
    """Deliver where nobody contributed before and all losses are alike."""
    nothing, alike = [0.0] * len(contributions), [1.0] * len(contributions)
    return deliver(run, result, target, payment, contributions=contributions, previous=nothing, likeness=alike)


@dataclass(frozen=True)
class Noting(Payment):
    """Sends what everybody has, and keeps what it was told."""

    told: list[RoundContext] = field(default_factory=list)

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        self.told.append(context)
        return layer.models


@pytest.fixture
def models(run: Run) -> Tensor:
    """Everybody's own model, (5, P)."""
    run.progress.models = run.parameters + torch.arange(5.0)[:, None]
    return run.models.clone()


def test_weights_are_those_among_whose_updates_count(run: Run, honest: Tensor, models: Tensor, finish: Finish) -> None:
    run.samples = [60, 40, 20, 50, 50]
    result = finish(honest, refused=(1,))
    pay(run, result, Everything(), Masking(), contributions=[1.0] * 5)
    mean = (torch.tensor([60.0, 20.0, 50.0, 50.0])[:, None] * honest[[0, 2, 3, 4]]).sum(dim=0) / 180
    assert run.models is not None
    torch.testing.assert_close(run.models[[0, 2, 3, 4]], models[[0, 2, 3, 4]] + mean)
    assert torch.equal(run.models[1], models[1])


def test_everybody_is_paid_by_its_own_share(run: Run, honest: Tensor, models: Tensor, finish: Finish) -> None:
    """The best is refused in this round, and what harms counts as nothing."""
    contributions = [0.8, 0.2, 0.4, -0.5, 0.1]
    pay(run, finish(honest, refused=(0,)), Relative(), Mixing(), contributions=contributions)
    own = models + honest
    average = (0.2 * own[1] + 0.4 * own[2] + 0.1 * own[4]) / 0.7
    shares = torch.tensor([0.25, 0.5, 0.0, 0.125])[:, None]
    assert run.models is not None
    torch.testing.assert_close(run.models[1:], (1 - shares) * own[1:] + shares * average)


def test_lengths_are_those_of_whole_updates(run: Run, honest: Tensor, models: Tensor, finish: Finish) -> None:
    honest *= torch.arange(1.0, 6.0)[:, None]
    noting = Noting()
    pay(run, finish(honest, refused=(0, 2)), Everything(), noting, contributions=[1.0] * 5)
    torch.testing.assert_close(noting.told[0].norms, honest[[1, 3, 4]].double().norm(dim=1))


def test_chance_is_another_for_each_participant_and_round_and_the_same_for_all_layers(
    run: Run, honest: Tensor, models: Tensor, finish: Finish
) -> None:
    noting = Noting()
    for refused in ((), (0,)):
        pay(run, finish(honest, refused=refused), Everything(), noting, contributions=[1.0] * 5)
    seeds = [tuple(context.seeds) for context in noting.told]
    first, second = dict.fromkeys(seeds)
    assert [context.round for context in noting.told] == [1] * 4 + [2] * 4
    assert len({*first, *second}) == 5 + 4


def test_where_nobody_s_update_counts_nobody_is_sent_anything(run: Run, models: Tensor) -> None:
    nothing = torch.zeros(len(run.parameters), dtype=torch.float64)
    result = RoundResult(1, {}, {}, nothing, nothing, {1.0: 0.5}, {"participants": [], "rejected": []})
    pay(run, result, Relative(), Mixing(), contributions=[1.0] * 5)
    assert run.models is not None
    assert torch.equal(run.models, models)


def test_in_the_end_everybody_adapts_its_model_for_as_long_as_is_said(
    run: Run, honest: Tensor, models: Tensor, finish: Finish
) -> None:
    means = ServerModel(final_epochs=2)
    for _ in range(3):
        result = finish(honest)
        adapted = pay(run, result, Everything(), means, contributions=[1.0] * 5)
        assert (adapted is None) == (result.round < 3)
    server = run.parameters.clone()
    assert adapted is not None
    for index in range(5):
        run.local.train(server, run.participant(index), work=LocalWork(2), keys=("adaptation", index), grid=run.grid)
        assert torch.equal(adapted[index], run.local.parameters)


def test_adaptation_is_at_the_rates_of_the_last_round(
    run: Run, honest: Tensor, models: Tensor, finish: Finish, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, rates, train = run.local.optimizer.optimizer.param_groups[0], [], run.local.train
    last = {**group, "lr": 0.5 * group["lr"]}
    last.pop("params")
    run.schedule[-1] = [last]

    def noted(*arguments: Any, **options: Any) -> float:
        rates.append(group["lr"])
        return train(*arguments, **options)

    monkeypatch.setattr(run.local, "train", noted)
    for _ in range(3):
        group["lr"] = 0.0  # where a schedule may end
        pay(run, finish(honest), Everything(), ServerModel(final_epochs=1), contributions=[1.0] * 5)
    assert rates == [last["lr"]] * 5
    assert group["lr"] == 0.0
