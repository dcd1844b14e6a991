"""Frequencies of who takes part against the exact probabilities."""

import itertools
from math import comb, prod

import numpy as np
import pytest

from aequa_lightning.engine.participation import Participation
from aequa_lightning.errors import InputError

ROUNDS = 1500
SAMPLES = [10, 20, 30, 40]


def frequencies(participation: Participation, count: int | None, *, lost: bool = False) -> np.ndarray:
    taken = np.zeros(len(SAMPLES))
    for number in range(1, ROUNDS + 1):
        cohort = participation.draw(SAMPLES, count, seed=3, round=number)
        taken[cohort.dropped if lost else cohort.completed] += 1
    return taken / ROUNDS


def near(probabilities: list[float]) -> object:
    # Four standard deviations of a frequency at most: .5 / sqrt(ROUNDS) each.
    return pytest.approx(probabilities, abs=4 * 0.5 / ROUNDS**0.5)


def test_participation_uniform_sampling() -> None:
    assert frequencies(Participation(), 2) == near([0.5] * 4)


def test_participation_sampling_by_samples_is_drawing_without_replacement() -> None:
    exact = np.zeros(4)
    for first, second in itertools.permutations(range(4), 2):
        probability = SAMPLES[first] / 100 * SAMPLES[second] / (100 - SAMPLES[first])
        exact[[first, second]] += probability
    assert frequencies(Participation("samples"), 2) == near(exact.tolist())


def test_participation_poisson_sampling_is_one_coin_each() -> None:
    participation = Participation("poisson")
    assert frequencies(participation, 1) == near([0.25] * 4)
    assert frequencies(Participation("poisson", availability=0.5), 1) == near([0.125] * 4)
    rounds = [participation.draw(SAMPLES, 1, seed=3, round=number).completed for number in range(ROUNDS)]
    numbers = np.bincount([len(present) for present in rounds], minlength=5) / ROUNDS
    assert numbers == near([comb(4, k) * 0.25**k * 0.75 ** (4 - k) for k in range(5)])


def test_participation_availability_is_one_coin_each() -> None:
    odds = [0.1, 0.5, 0.9, 1.0]
    assert frequencies(Participation(availability=odds), None) == near(odds)


def test_participation_samples_among_the_available() -> None:
    odds = [0.1, 0.5, 0.9, 1.0]
    exact = np.zeros(4)
    for reached in itertools.product([False, True], repeat=4):
        probability = prod(p if up else 1 - p for p, up in zip(odds, reached, strict=True))
        exact[list(reached)] += probability * min(1, 2 / sum(reached)) if any(reached) else 0
    assert frequencies(Participation(availability=odds), 2) == near(exact.tolist())


def test_participation_dropouts_are_chosen_but_do_not_report() -> None:
    participation = Participation(dropout=0.25)
    assert frequencies(participation, 2) == near([0.375] * 4)
    assert frequencies(participation, 2, lost=True) == near([0.125] * 4)


def test_participation_dropout_is_independent_of_availability() -> None:
    assert frequencies(Participation(availability=0.5, dropout=0.5), None) == near([0.25] * 4)


def test_participation_cohort_is_ascending() -> None:
    for sampling in ("uniform", "samples", "poisson"):
        participation = Participation(sampling, dropout=0.3)
        for number in range(1, 20):
            cohort = participation.draw([1] * 30, 15, seed=0, round=number)
            assert cohort.completed == sorted(cohort.completed)
            assert cohort.dropped == sorted(cohort.dropped)


def test_participation_too_slow_for_one_step_is_dropped() -> None:
    participation = Participation(step_budget=4, speed=[1.0, 0.5, 0.2, 3.0])
    assert [participation.steps(index) for index in range(4)] == [4, 2, 0, 12]
    cohort = participation.draw(SAMPLES, None, seed=0, round=1)
    assert (cohort.completed, cohort.dropped) == ([0, 1, 3], [2])


def test_participation_depends_on_seed_and_round_alone() -> None:
    participation = Participation(availability=0.5, dropout=0.5)
    draws = [participation.draw([1] * 50, 20, seed=seed, round=number) for seed, number in ((1, 1), (1, 1), (1, 2))]
    assert draws[0] == draws[1] != draws[2]


def test_participation_cohort_may_be_empty() -> None:
    reporting = [
        Participation(availability=0.1).draw(SAMPLES, 2, seed=0, round=number).completed for number in range(1, 20)
    ]
    assert [] in reporting


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"availability": 0.0}, "availability"),
        ({"availability": [0.5, 1.5]}, "availability"),
        ({"dropout": 1.0}, "dropout"),
        ({"step_budget": 0}, "step_budget"),
        ({"speed": -1.0}, "speed"),
        ({"speed": [1.0, 0.0]}, "speed"),
    ],
)
def test_participation_options_out_of_range_are_refused(options: dict[str, object], key: str) -> None:
    with pytest.raises(InputError, match=key):
        Participation(**options)  # type: ignore[arg-type]


def test_participation_list_needs_one_value_each() -> None:
    with pytest.raises(InputError, match=r"availability has 2 values for data\.participants=3"):
        Participation(availability=[0.5, 0.5]).check(3, None)
    with pytest.raises(InputError, match="participants_per_round=4"):
        Participation().check(3, 4)
