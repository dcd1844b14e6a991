from dataclasses import replace

import numpy as np
import pytest

from aequa_lightning.rewards import allocate_widths, check_certificate


def check(allocation, case):
    return check_certificate(
        allocation, case["contributions"], case["accuracy_by_width"], floors=case["floors"], pin_top=case["pin_top"]
    )


@pytest.mark.parametrize("name", ["cv", "spread_minus_gain", "variance", "lexicographic"])
def test_certificate_proves_every_optimum_and_nothing_else(name, random_cases, admissible):
    caught = 0
    for case in random_cases(400, seed=3):
        best = allocate_widths(objective=name, **case)
        assert check(best, case) == []
        widths = dict(zip(best.curve.accuracies, best.curve.widths, strict=True))
        everything = admissible(case)
        other = everything[len(everything) // 2]
        forged = replace(best, accuracies=other, widths=np.array([widths[accuracy] for accuracy in other]))
        gains = other - case["contributions"]
        value = {
            "cv": gains.std() / gains.mean() if gains.mean() > 1e-6 else np.inf,
            "spread_minus_gain": gains.std() - 0.5 * gains.mean(),
            "variance": gains.var() - 0.5 * gains.mean(),
            "lexicographic": gains.std(),
        }[name]
        if value > best.objective_value + 1e-6 * max(1, abs(value)):
            assert "the proven bound" in check(forged, case)[0]
            caught += 1
    assert caught > 100


@pytest.mark.parametrize("name", ["cv", "spread_minus_gain", "variance", "lexicographic", "proportional"])
def test_certificate_no_choice_of_cuts_proves_a_worse_allocation(name, random_cases, admissible):
    rng = np.random.default_rng(0)
    refused = 0
    for case in random_cases(300, seed=4):
        best = allocate_widths(objective=name, **case)
        widths = dict(zip(best.curve.accuracies, best.curve.widths, strict=True))
        everything = admissible(case)
        other = everything[rng.integers(len(everything))]
        forged = replace(best, accuracies=other, widths=np.array([widths[accuracy] for accuracy in other]))
        gains = other - case["contributions"]
        value = {
            "cv": gains.std() / gains.mean() if gains.mean() > 1e-6 else np.inf,
            "spread_minus_gain": gains.std() - 0.5 * gains.mean(),
            "variance": gains.var() - 0.5 * gains.mean(),
            "lexicographic": gains.std(),
            "proportional": np.tan(
                np.arccos(
                    min(
                        1.0,
                        other @ case["contributions"] / np.linalg.norm(other) / np.linalg.norm(case["contributions"]),
                    )
                )
            ),
        }[name]
        least = best.objective_value
        if name == "proportional":
            least = np.sqrt(1 / least**2 - 1)
        if value > least + 1e-5 * max(1, abs(value)):
            cuts = rng.uniform(-1, 1, rng.integers(0, 8)) * rng.choice([0.3, 1, 20])
            assert check(replace(forged, certificate={**best.certificate, "cuts": cuts.tolist()}), case)
            refused += 1
    assert refused > 80


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"widths": [0.5, 0.5, 1.0], "accuracies": [0.7, 0.8, 0.9]}, "not on offer"),
        ({"widths": [0.5, 0.25, 1.0], "accuracies": [0.8, 0.6, 0.9]}, "contributed less"),
        ({"widths": [0.25, 0.5, 0.5], "accuracies": [0.6, 0.8, 0.8]}, "rules grant"),
        ({"widths": [0.25, 0.25, 1.0], "accuracies": [0.6, 0.6, 0.9]}, "rules grant"),
    ],
)
def test_certificate_check_names_broken_rules(change, word):
    brought, curve, floors = [0.3, 0.5, 0.6], {0.25: 0.6, 0.5: 0.8, 1.0: 0.9}, [0.3, 0.7, 0.3]
    best = allocate_widths(brought, curve, floors=floors)
    assert check_certificate(best, brought, curve, floors=floors) == []
    forged = replace(best, **{key: np.array(value) for key, value in change.items()})
    assert word in " ".join(check_certificate(forged, brought, curve, floors=floors))


def test_certificate_check_names_unequal_pay_of_equals():
    brought, curve = [0.3, 0.3, 0.6], {0.25: 0.6, 0.5: 0.8, 1.0: 0.9}
    best = allocate_widths(brought, curve)
    forged = replace(best, widths=np.array([0.25, 0.5, 1.0]), accuracies=np.array([0.6, 0.8, 0.9]))
    assert "equal contributions" in " ".join(check_certificate(forged, brought, curve))


CURVE = {0.25: 0.6, 0.5: 0.8, 1.0: 0.9}


def forge(allocation, *widths, **certificate):
    accuracies = np.array([CURVE[width] for width in widths])
    certificate = {**allocation.certificate, **certificate}
    return replace(allocation, widths=np.array(widths), accuracies=accuracies, certificate=certificate)


@pytest.mark.parametrize("objective", ["proportional", "full", "nash", "pearson"])
def test_certificate_of_any_kind_proves_no_worse_allocation(objective):
    brought = [0.3, 0.5, 0.6]
    best = allocate_widths(brought, CURVE, objective, pin_top=False)
    assert check_certificate(best, brought, CURVE, pin_top=False) == []
    # The objective decides how it is proven, not what a file calls the proof.
    for widths in ((0.25, 0.25, 0.5), (0.25, 0.5, 0.5)):
        assert list(best.widths) != list(widths)
        faults = check_certificate(forge(best, *widths), brought, CURVE, pin_top=False)
        assert "the proven bound" in " ".join(faults)


def test_certificate_cannot_call_a_correlation_that_exists_undefined():
    brought = [0.3, 0.5, 0.6]
    best = allocate_widths(brought, CURVE, "pearson")
    forged = forge(best, 1.0, 1.0, 1.0, kind="undefined")
    assert "the proven bound" in " ".join(check_certificate(forged, brought, CURVE))


def test_certificate_proves_the_least_loss_where_nobody_can_gain():
    brought = [0.95, 0.97]
    best = allocate_widths(brought, CURVE, "cv", pin_top=False)
    assert best.widths.tolist() == [1.0, 1.0]
    assert check_certificate(best, brought, CURVE, pin_top=False) == []
    assert "the proven bound" in " ".join(check_certificate(forge(best, 0.5, 1.0), brought, CURVE, pin_top=False))


def test_certificate_of_the_full_width_does_not_prove_another_objective():
    brought = [0.3, 0.5, 0.6]
    best = allocate_widths(brought, CURVE, "cv")
    for kind in ("full", "undefined"):
        assert check_certificate(forge(best, 1.0, 1.0, 1.0, kind=kind), brought, CURVE)


@pytest.mark.parametrize(("objective", "lam"), [("spread_minus_gain", 50.0), ("variance", 0.0)])
def test_certificate_cannot_choose_the_weight_of_the_mean_gain(objective, lam):
    brought, curve = [0.1, 0.2, 0.6], {0.25: 0.4, 0.5: 0.5, 1.0: 0.9}
    other = allocate_widths(brought, curve, objective, lam=lam)
    assert other.widths.tolist() != allocate_widths(brought, curve, objective).widths.tolist()
    assert check_certificate(other, brought, curve, lam=lam) == []
    assert "the proven bound" in " ".join(check_certificate(other, brought, curve))


def test_certificate_of_no_known_objective_is_a_fault():
    brought = [0.3, 0.5, 0.6]
    forged = replace(allocate_widths(brought, CURVE), objective="held in the last round")
    assert check_certificate(forged, brought, CURVE) == ["objective 'held in the last round' has no proof"]
