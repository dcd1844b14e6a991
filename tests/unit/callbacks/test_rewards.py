"""What the callback says before the rounds, and who receives what in one."""

from unittest.mock import MagicMock

from aequa_lightning.callbacks.rewards import Rewards
from aequa_lightning.engine.participation import Cohort
from aequa_lightning.engine.run import Run
from aequa_lightning.mechanisms import AequaTraining, Mechanism, Slimming


def rewarding(run: Run, mechanism: Mechanism, standalone: list[float]) -> Rewards:
    """The callback after a round, in which everybody was found to reach as much alone."""
    rewards = Rewards(mechanism)
    rewards.setup(run)
    told = {"values.return_value": {"standalone": standalone}, "paid.return_value": standalone}
    rewards.measures = MagicMock(**told)
    rewards._curve = {0.5: 0.6, 1.0: 0.9}
    return rewards


def test_who_is_lost_in_a_round_has_received_before(run: Run) -> None:
    rewards = rewarding(run, AequaTraining(), [0.9, 0.5, 0.5, 0.5, 0.5])
    run.progress.cohort = Cohort(completed=[0, 1], dropped=[3])
    assignment = rewards.on_round_start(run)
    assert assignment is not None
    assert assignment.widths == [1.0, 0.5, 1.0, 0.5, 1.0]


def test_the_teacher_is_the_narrowest_of_those_who_take_part(run: Run) -> None:
    rewards = rewarding(run, AequaTraining(), [0.9, 0.5, 0.5, 0.5, 0.5])
    run.progress.widths = [1.0, 0.5, 0.5, 0.5, 0.5]
    for present, teacher in (([0], 1.0), ([0, 4], 0.5)):
        run.progress.cohort = Cohort(completed=present)
        assignment = rewards.on_round_start(run)
        assert assignment is not None
        assert assignment.distillation is not None
        assert assignment.distillation.teacher == teacher


def test_nobody_holds_less_than_the_narrowest_width(run: Run) -> None:
    rewards = rewarding(run, Slimming(), [1.0, 0.1, 0.75, 0.5, 0.25])
    run.progress.cohort = Cohort(completed=list(range(5)))
    assignment = rewards.on_round_start(run)
    assert assignment is not None
    assert assignment.widths == [1.0, 0.5, 0.75, 0.5, 0.5]
