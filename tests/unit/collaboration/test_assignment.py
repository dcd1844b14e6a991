import itertools

import numpy as np
import pytest

from aequa_lightning.collaboration.assignment import assign


def _busiest(work: list[float], hosted: list[list[int]]) -> float:
    return max(sum(work[i] for i in group) for group in hosted)


@pytest.mark.parametrize("seed", range(20))
def test_within_four_thirds_of_the_best(seed: int) -> None:
    random = np.random.default_rng(seed)
    work, groups = random.integers(1, 30, 7).tolist(), int(random.integers(1, 4))
    hosted = assign(work, groups)
    assert sorted(itertools.chain(*hosted)) == list(range(7))
    best = min(
        _busiest(work, [[i for i in range(7) if places[i] == g] for g in range(groups)])
        for places in itertools.product(range(groups), repeat=7)
    )
    assert _busiest(work, hosted) <= 4 / 3 * best


def test_more_groups_than_participants_leave_some_idle() -> None:
    assert sorted(map(len, assign([1.0, 2.0], 4))) == [0, 0, 1, 1]
