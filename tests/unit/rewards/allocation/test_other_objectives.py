import numpy as np
import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.rewards import allocate_widths, check_certificate

CURVE = {0.25: 0.6, 0.5: 0.8, 1.0: 0.9}


def cosines(one, others):
    norms = np.linalg.norm(others, axis=1) * np.linalg.norm(one)
    return np.divide(others @ one, norms, out=np.zeros(len(others)), where=norms > 1e-9)


def losses(name, allocations, contributions):
    """What each row of accuracies loses, from the definition of the objective."""
    gains = allocations - contributions
    if name == "pearson":
        return -cosines(contributions - contributions.mean(), allocations - allocations.mean(axis=1, keepdims=True))
    if name == "proportional":
        return -cosines(contributions, allocations)
    if name == "nash":
        return -(np.prod(np.maximum(gains, 0), axis=1) ** (1 / len(contributions)))
    return -gains.mean(axis=1)


def check(allocation, case, **keywords):
    keywords |= {"floors": case["floors"], "pin_top": case["pin_top"]}
    return check_certificate(allocation, case["contributions"], case["accuracy_by_width"], **keywords)


@pytest.mark.parametrize("name", ["pearson", "proportional", "nash", "full"])
def test_objective_optimum_is_the_best_of_all_admissible_allocations(name, random_cases, admissible):
    mismatches = 0
    for number, case in enumerate(random_cases(600, seed=5)):
        allocation = allocate_widths(objective=name, **case)
        everything = admissible(case)
        loss = losses(name, everything, case["contributions"])
        chosen = np.flatnonzero((everything == allocation.accuracies).all(axis=1))
        if name == "pearson" and np.ptp(case["contributions"]) == 0:
            mismatches += allocation.certificate["kind"] != "undefined"
            continue
        mismatches += not (
            len(chosen) > 0
            and loss[chosen[0]] <= loss.min() + 1e-12
            and allocation.objective_value == pytest.approx(-loss.min(), abs=1e-12)
        )
        if number % 6 == 0:
            mismatches += check(allocation, case) != []
    assert mismatches == 0


def test_scale_free_objectives_take_contributions_in_any_unit():
    samples = np.array([100.0, 400.0, 900.0])
    for name in ("pearson", "proportional"):
        in_units = allocate_widths(samples, CURVE, name)
        in_shares = allocate_widths(samples / samples.sum(), CURVE, name)
        assert in_units.widths.tolist() == in_shares.widths.tolist()
        assert in_units.objective_value == pytest.approx(in_shares.objective_value)


def test_full_width_for_all_leaves_the_correlation_undefined():
    for name in ("full", "nash"):
        allocation = allocate_widths([0.2, 0.5, 0.7], CURVE, name)
        assert allocation.widths.tolist() == [1.0] * 3
        assert allocation.pearson is None
    assert allocate_widths([0.2, 0.95], CURVE, "nash").objective_value == 0.0


@pytest.mark.parametrize(
    ("name", "brought", "word"), [("pearson", [0.5, 0.5], "undefined"), ("proportional", [0.0, 0.0], "no proportion")]
)
def test_figure_that_cannot_exist_is_reported_and_pays_everybody_in_full(name, brought, word):
    allocation = allocate_widths(brought, CURVE, name)
    assert allocation.widths.tolist() == [1.0, 1.0]
    assert word in allocation.certificate["remarks"][0]
    assert check_certificate(allocation, brought, CURVE) == []


def test_hundred_participants_have_a_proven_correlation():
    rng = np.random.default_rng(2)
    brought = rng.beta(2, 2, 100) * 0.6 + 0.2
    curve = {(k + 1) / 6: float(level) for k, level in enumerate(np.sort(rng.uniform(0.3, 0.95, 6)))}
    allocation = allocate_widths(brought, curve, "pearson")
    assert check_certificate(allocation, brought, curve) == []
    lower = allocate_widths(brought, curve, "cv")
    forged = type(lower)(**{**vars(lower), "objective": "pearson", "certificate": {"kind": "triangles"}})
    assert "the proven bound" in check_certificate(forged, brought, curve)[0]


@pytest.mark.parametrize(
    ("keywords", "word"),
    [
        ({"objective": "proportional", "contributions": [-0.1, 0.5]}, "none may be negative"),
        ({"objective": "nash", "contributions": [40.0, 50.0]}, "divide percentages"),
    ],
)
def test_bad_input_is_named(keywords, word):
    with pytest.raises(InputError, match=word):
        allocate_widths(**{"contributions": [0.1, 0.2], "accuracy_by_width": CURVE, **keywords})
