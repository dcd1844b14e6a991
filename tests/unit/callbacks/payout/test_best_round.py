from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from aequa_lightning.callbacks.payout.best_round import BestRound
from aequa_lightning.callbacks.rewards import Rewards
from aequa_lightning.engine.reward_source import RewardSource
from aequa_lightning.mechanisms import Aequa, AequaTraining, Mechanism

# What the full width reaches after each round; the server's parameters are the round's number.
REACHED = [0.5, 0.9, 0.6, 0.7]


def after_all_rounds(mechanism: Mechanism, *, resumed_after: int | None = None) -> Any:
    run = MagicMock(parameters=torch.zeros(1), reward_source=RewardSource())
    rewards = begin(mechanism)
    for number, accuracy in enumerate(REACHED, start=1):
        run.parameters.fill_(number)
        result: Any = SimpleNamespace(round=number, accuracy_by_width={1.0: accuracy, 0.5: 0.95})
        run.reward_source = rewards.on_round_end(run, result) or run.reward_source
        if number == resumed_after:
            state = rewards.state_dict()
            rewards = begin(mechanism)
            rewards.load_state_dict(state)
    return run


def begin(mechanism: Mechanism) -> Rewards:
    rewards = Rewards(mechanism)
    rewards.measures, rewards._curve, rewards._best = MagicMock(), {}, BestRound()
    return rewards


@pytest.mark.parametrize("resumed_after", [None, 1, 2, 3])
def test_training_time_rewards_are_cut_from_the_best_round_and_training_goes_on_from_the_last(
    resumed_after: int | None,
) -> None:
    run = after_all_rounds(AequaTraining(), resumed_after=resumed_after)
    assert run.reward_source.parameters == 2
    assert run.parameters == len(REACHED)


def test_after_training_it_is_the_last_round_that_is_paid() -> None:
    run = after_all_rounds(Aequa())
    assert run.reward_source == RewardSource()
    assert run.parameters == len(REACHED)


def test_another_mechanism_does_not_pay_with_what_was_best_under_the_one_before() -> None:
    run, result = after_all_rounds(AequaTraining()), SimpleNamespace(round=5, accuracy_by_width={1.0: 0.1})
    assert begin(Aequa()).on_round_end(run, result) == RewardSource()  # type: ignore[arg-type]
