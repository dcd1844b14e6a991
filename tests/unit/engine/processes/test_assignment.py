import itertools

import numpy as np
import pytest

from aequa_lightning.engine.processes.assignment import LoadBalancer, assign


def _busiest(work: list[float], hosted: list[list[int]]) -> float:
    return max(sum(work[i] for i in group) for group in hosted)


@pytest.mark.parametrize("seed", range(20))
def test_assignment_is_within_four_thirds_of_the_best(seed: int) -> None:
    random = np.random.default_rng(seed)
    work, groups = random.integers(1, 30, 7).tolist(), int(random.integers(1, 4))
    hosted = assign(work, groups)
    assert sorted(itertools.chain(*hosted)) == list(range(7))
    best = min(
        _busiest(work, [[i for i in range(7) if places[i] == g] for g in range(groups)])
        for places in itertools.product(range(groups), repeat=7)
    )
    assert _busiest(work, hosted) <= 4 / 3 * best


def test_assignment_leaves_groups_idle_if_there_are_more_than_participants() -> None:
    assert sorted(map(len, assign([1.0, 2.0], 4))) == [0, 0, 1, 1]


def test_load_balancer_uses_samples_without_a_measurement() -> None:
    samples = [50, 10, 30, 30]
    expected = assign([float(count) for count in samples], 2)
    assert LoadBalancer(samples).assign([[0], [1], [2], [3]], 2) == [[[index] for index in group] for group in expected]


def test_load_balancer_uses_measured_seconds() -> None:
    placement = LoadBalancer([10, 10, 10, 10, 10])
    placement.update({0: 1.0, 1: 1.0, 2: 1.0, 4: 3.0})
    # Nearly all the work lies with participant 4, which samples do not tell.
    assert placement.assign([[0], [1, 2], [4]], 2) == [[[4]], [[1, 2], [0]]]
    placement.update({0: 9.0})
    assert placement.assign([[0], [1], [4]], 2) == [[[0]], [[4], [1]]]


def test_load_balancer_estimates_the_unmeasured_by_the_pace_of_the_others() -> None:
    placement = LoadBalancer([10, 30, 100])
    placement.update({0: 2.0, 1: 2.0})
    # 4 seconds for 40 samples, so 10 seconds for 100.
    assert placement.assign([[0], [1], [2]], 2) == [[[2]], [[0], [1]]]
    small = LoadBalancer([10, 30, 10])
    small.update({0: 2.0, 1: 2.0})
    # And 1 second for 10.
    assert small.assign([[0], [1], [2]], 2) == [[[0], [2]], [[1]]]
