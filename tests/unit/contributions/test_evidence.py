"""Evidence over rounds: who is found, who is not, and that it survives a resume."""

import torch

from aequa_lightning.contributions.evidence import Evidence

EVERYBODY = range(10)


def _spread(centre: float, seed: int, *, share: float = 0.3) -> torch.Tensor:
    return centre * (1 + share * (torch.rand(10, generator=torch.Generator().manual_seed(seed)) - 0.5))


def test_honest_participants_are_let_alone() -> None:
    evidence = Evidence(10)
    for number in range(50):
        evidence.add(_spread(60.0, number), _spread(0.5, 100 + number), EVERYBODY)
        assert not evidence.riders(EVERYBODY)
        assert not evidence.harmful(EVERYBODY)


def test_who_stops_training_is_found_within_a_few_rounds() -> None:
    evidence = Evidence(10)
    found = []
    for number in range(16):
        novelties = _spread(60.0, number)
        if number >= 10:
            novelties[3] = 0.9
        evidence.add(novelties, torch.ones(10), EVERYBODY)
        found.append(evidence.riders(EVERYBODY))
    assert found[9] == []
    assert found[-1] == [3]
    assert found.index([3]) <= 14


def test_one_bad_round_is_forgiven() -> None:
    evidence = Evidence(10)
    for number in range(8):
        novelties, effects = _spread(60.0, number), _spread(0.5, 100 + number)
        if number == 5:
            novelties[3], effects[4] = 1.0, -0.4
        evidence.add(novelties, effects, EVERYBODY)
        assert not evidence.riders(EVERYBODY)
        assert not evidence.harmful(EVERYBODY)


def test_opposites_are_found_and_weak_effects_are_not() -> None:
    evidence = Evidence(10)
    for number in range(5):
        effects = _spread(0.5, number)
        effects[2], effects[7] = -0.5, 0.01
        evidence.add(_spread(60.0, number), effects, EVERYBODY)
        assert evidence.harmful(EVERYBODY) == [2]


def test_nobody_is_judged_where_the_median_itself_does_harm_or_is_noise() -> None:
    evidence = Evidence(10)
    evidence.add(_spread(0.9, 0, share=0.1), _spread(-0.5, 1), EVERYBODY)
    assert not evidence.riders(EVERYBODY)
    assert not evidence.harmful(EVERYBODY)


def test_fewer_than_four_say_nothing_and_absent_ones_keep_their_standing() -> None:
    evidence = Evidence(10)
    evidence.add(torch.tensor([1.0, 90.0, 90.0]), torch.tensor([-1.0, 1.0, 1.0]), [0, 1, 2])
    assert not evidence.riders(EVERYBODY)
    evidence.add(torch.tensor([1.0, 90.0, 90.0, 80.0]), torch.tensor([-1.0, 1.0, 1.1, 0.9]), [0, 1, 2, 3])
    assert (evidence.riders(EVERYBODY), evidence.harmful(EVERYBODY)) == ([0], [0])
    evidence.add(torch.full((4,), 90.0), torch.ones(4), [6, 7, 8, 9])
    assert (evidence.riders(EVERYBODY), evidence.harmful([6, 7])) == ([0], [])
    resumed = Evidence(10)
    resumed.load_state_dict(evidence.state_dict())
    assert resumed.state_dict() == evidence.state_dict()
    assert resumed.riders(EVERYBODY) == [0]
