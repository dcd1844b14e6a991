import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from aequa_lightning.errors import InputError
from aequa_lightning.rewards import allocate_widths, check_certificate
from aequa_lightning.rewards.allocation.feasibility import feasible_choices


def is_proven(allocation, case, capacity):
    rules = {"floors": case["floors"], "pin_top": case["pin_top"], "capacity": capacity}
    return check_certificate(allocation, case["contributions"], case["accuracy_by_width"], **rules) == []


def cosines(one, others):
    norms = np.linalg.norm(others, axis=1) * np.linalg.norm(one)
    return np.divide(others @ one, norms, out=np.zeros(len(others)), where=norms > 1e-9)


@pytest.mark.parametrize("name", ["cv", "spread_minus_gain", "variance", "lexicographic", "proportional"])
def test_no_allocation_within_the_limits_is_better(name, random_cases, admissible):
    rng = np.random.default_rng(0)
    infeasible = binding = mismatches = 0
    for number, case in enumerate(random_cases(600, seed=6)):
        widths = list(case["accuracy_by_width"])
        capacity = {width: int(rng.integers(0, 4)) for width in widths if rng.random() < 0.6}
        everything = admissible(case)
        offered = allocate_widths(objective="full", **case).curve
        fits = np.ones(len(everything), dtype=bool)
        for width, accuracy in zip(offered.widths, offered.accuracies, strict=True):
            fits &= (everything == accuracy).sum(axis=1) <= capacity.get(width, np.inf)
        if not fits.any():
            infeasible += 1
            with pytest.raises(InputError, match="capacity is too small"):
                allocate_widths(objective=name, capacity=capacity, **case)
            continue
        allocation = allocate_widths(objective=name, capacity=capacity, **case)
        gains = everything[fits] - case["contributions"]
        mean, spread = gains.mean(axis=1), gains.std(axis=1)
        values = {
            "cv": np.where(mean > 1e-6, spread / np.where(mean > 1e-6, mean, 1), np.inf),
            "spread_minus_gain": spread - 0.5 * mean,
            "variance": spread**2 - 0.5 * mean,
            "lexicographic": spread,
            "proportional": -cosines(case["contributions"], everything[fits]),
        }[name]
        chosen = np.flatnonzero((everything[fits] == allocation.accuracies).all(axis=1))
        good = len(chosen) > 0 and values[chosen[0]] <= values.min() + 1e-11 * max(1, abs(values.min()))
        mismatches += not good
        binding += not np.array_equal(allocation.accuracies, allocate_widths(objective=name, **case).accuracies)
        if number % 10 == 0:
            mismatches += not is_proven(allocation, case, capacity)
    assert mismatches == 0
    assert infeasible > 30
    assert binding > 60  # the limits did matter


@pytest.mark.parametrize("seed", range(10))
def test_least_distance_within_limits_is_that_of_an_integer_programme(seed):
    """The programme knows nothing of order: sorting costs nothing when targets rise with the contribution."""
    rng = np.random.default_rng(seed)
    contributions = rng.uniform(0.2, 0.8, 12)
    curve = {(k + 1) / 4: float(level) for k, level in enumerate(np.sort(rng.uniform(0.3, 0.95, 4)))}
    capacity = {0.5: 3, 0.75: 4, 1.0: 3}
    feasible = feasible_choices(contributions, curve, floors=None, pin_top=False, capacity=capacity)
    for tau in rng.uniform(-0.3, 0.6, 3):
        costs = (feasible.levels - contributions[:, None] - tau) ** 2
        programme = milp(
            costs.ravel(),
            integrality=np.ones(costs.size),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(np.kron(np.eye(12), np.ones(4)), 1, 1),
                LinearConstraint(np.kron(np.ones(12), np.eye(4)), 0, feasible.capacity),
            ],
            options={"mip_rel_gap": 0},
        )
        assert feasible.least_sum(costs) == pytest.approx(programme.fun, abs=1e-7)
    best = allocate_widths(contributions, curve, "lexicographic", pin_top=False, capacity=capacity)
    assert check_certificate(best, contributions, curve, pin_top=False, capacity=capacity) == []


@pytest.mark.parametrize(
    ("capacity", "word"), [({0.3: 1}, "width 0.3"), ({1.0: -1}, "-1"), ({1.0: 0}, "too small"), ({0.5: 0}, None)]
)
def test_bad_capacity_is_named(capacity, word):
    curve = {0.5: 0.8, 1.0: 0.9}
    if word is None:
        assert allocate_widths([0.1, 0.2], curve, capacity=capacity).widths.tolist() == [1.0, 1.0]
        return
    with pytest.raises(InputError, match=word):
        allocate_widths([0.1, 0.2], curve, capacity=capacity)


def test_exceeded_capacity_is_named_by_the_check():
    brought, curve = [0.1, 0.2, 0.3], {0.5: 0.6, 1.0: 0.9}
    unlimited = allocate_widths(brought, curve, "lexicographic", slope=0.0)
    faults = check_certificate(unlimited, brought, curve, capacity={1.0: 1})
    assert "a width is handed out more often than its capacity" in faults
