"""What the callback says before the rounds, and who receives what in one."""

from unittest.mock import MagicMock

import pytest
import torch

from aequa_lightning.callbacks.rewards import Rewards
from aequa_lightning.engine.participation import Cohort
from aequa_lightning.engine.run import Collaboration
from aequa_lightning.mechanisms import CGSV, Aequa, AequaTraining, Mechanism, Slimming


@pytest.mark.parametrize(("mechanism", "own"), [(Aequa(), False), (AequaTraining(), False), (CGSV(), True)])
def test_only_who_is_paid_with_parts_trains_them(run: Collaboration, mechanism: Mechanism, own: bool) -> None:
    Rewards(mechanism).setup(run)
    assert run.grid == ((1.0,) if own else (1.0, 0.5))
    assert (run.models is not None) == own
    if run.models is not None:
        start = run.parameters.clone()
        assert torch.equal(run.models, start.expand(5, -1))
        run.models[0] += 1
        assert torch.equal(run.models[1], start)
        assert torch.equal(run.parameters, start)


def rewarding(run: Collaboration, mechanism: Mechanism, standalone: list[float]) -> Rewards:
    """The callback after a round, in which everybody was found to reach as much alone."""
    rewards = Rewards(mechanism)
    rewards.setup(run)
    told = {"values.return_value": {"standalone": standalone}, "paid.return_value": standalone}
    rewards.measures = MagicMock(**told)
    rewards._curve = {0.5: 0.6, 1.0: 0.9}
    return rewards


def test_who_is_lost_in_a_round_has_received_before(run: Collaboration) -> None:
    rewards = rewarding(run, AequaTraining(), [0.9, 0.5, 0.5, 0.5, 0.5])
    run.cohort = Cohort(completed=[0, 1], dropped=[3])
    rewards.on_round_start(run)
    assert run.widths == [1.0, 0.5, 1.0, 0.5, 1.0]


def test_the_teacher_is_the_narrowest_of_those_who_take_part(run: Collaboration) -> None:
    rewards = rewarding(run, AequaTraining(), [0.9, 0.5, 0.5, 0.5, 0.5])
    run.widths = [1.0, 0.5, 0.5, 0.5, 0.5]
    for present, teacher in (([0], 1.0), ([0, 4], 0.5)):
        run.cohort = Cohort(completed=present)
        rewards.on_round_start(run)
        assert run.distillation is not None
        assert run.distillation.teacher == teacher


def test_nobody_holds_less_than_the_narrowest_width(run: Collaboration) -> None:
    rewards = rewarding(run, Slimming(), [1.0, 0.1, 0.75, 0.5, 0.25])
    run.cohort = Cohort(completed=list(range(5)))
    rewards.on_round_start(run)
    assert run.widths == [1.0, 0.5, 0.75, 0.5, 0.5]
