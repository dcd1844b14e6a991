import numpy as np
import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.rewards import allocate_widths, bootstrap, continuous_bound, pareto_front


def test_front_holds_every_optimum_and_nothing_admissible_is_above_its_hull(random_cases, admissible):
    for case in random_cases(300, seed=7):
        front = pareto_front(**case)
        everything = admissible(case)
        gains = everything - case["contributions"]
        means, spreads = gains.mean(axis=1), gains.std(axis=1)
        assert (np.diff(front.mean_gains) > 0).all()
        assert (np.diff(front.spreads) > 0).all()
        for name, lam in (("lexicographic", 0.0), ("spread_minus_gain", 0.3), ("variance", 0.3)):
            best = allocate_widths(objective=name, lam=lam, **case)
            value = {"lexicographic": front.spreads, "variance": front.spreads**2 - lam * front.mean_gains}.get(
                name, front.spreads - lam * front.mean_gains
            )
            assert value.min() == pytest.approx(best.objective_value, abs=1e-7)
        for mean, spread, widths in zip(front.mean_gains, front.spreads, front.widths, strict=True):
            assert not ((means >= mean + 1e-9) & (spreads <= spread - 1e-7)).any()
            accuracies = [case["accuracy_by_width"][width] for width in widths]
            assert np.mean(accuracies - case["contributions"]) == pytest.approx(mean)
            assert np.std(accuracies - case["contributions"]) == pytest.approx(spread, abs=1e-7)


def test_front_is_thinned_to_the_points_asked_for():
    rng = np.random.default_rng(0)
    curve = {(k + 1) / 8: float(level) for k, level in enumerate(np.sort(rng.uniform(0.3, 0.95, 8)))}
    brought = rng.uniform(0.2, 0.8, 200)
    whole = pareto_front(brought, curve, most_points=10_000)
    thin = pareto_front(brought, curve, most_points=20)
    assert len(whole.mean_gains) > len(thin.mean_gains) == 20
    assert thin.mean_gains[[0, -1]].tolist() == whole.mean_gains[[0, -1]].tolist()
    assert thin.widths[-1].tolist() == [1.0] * 200
    with pytest.raises(InputError, match="most_points"):
        pareto_front(brought, curve, most_points=1)


def test_continuous_bound_is_the_minimum_of_a_dense_scan(random_cases):
    for case in random_cases(300, seed=8):
        bound = continuous_bound(**case)
        brought, full = case["contributions"], case["accuracy_by_width"][1.0]
        lowest = min(accuracy for accuracy in case["accuracy_by_width"].values())
        offered = allocate_widths(objective="full", **case).curve
        lowest = offered.accuracies[0]
        low = np.full(len(brought), lowest)
        if case["floors"] is not None:
            low = np.array([max(lowest, case["floors"][brought <= one].max()) for one in brought]).clip(max=full)
        if case["pin_top"]:
            low[brought == brought.max()] = full
        taus = np.linspace(-1, 1, 4001)
        gains = np.clip(brought + taus[:, None], low, full) - brought
        means = gains.mean(axis=1)
        scanned = np.where(means > 1e-6, gains.std(axis=1) / np.where(means > 1e-6, means, 1), np.inf).min()
        if np.isinf(scanned) or scanned > 50:
            continue
        assert bound <= scanned + 1e-9
        assert bound >= scanned - 0.02 * max(1, scanned)
        assert bound <= allocate_widths(**case).objective_value + 1e-9


def test_finer_grids_tend_to_the_continuous_bound_from_above():
    rng = np.random.default_rng(1)
    brought = rng.uniform(0.1, 0.8, 300)
    values = []
    for count in (5, 20, 80, 320):
        curve = {(k + 1) / count: float(level) for k, level in enumerate(np.linspace(0.4, 0.9, count))}
        values.append(allocate_widths(brought, curve).objective_value)
        bound = continuous_bound(brought, curve)
        assert values[-1] >= bound
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(bound, rel=0.01)


def test_bootstrap_agrees_with_the_binomial_deviation_of_a_mean():
    rng = np.random.default_rng(2)
    samples = 400
    correct = rng.random((3, samples)) < np.array([[0.5], [0.7], [0.9]])
    drawn = bootstrap(correct, [0.25, 0.5, 1.0], [0.2, 0.4, 0.6], objective="full", repeats=800)
    accuracy = correct[2].mean()
    expected = np.sqrt(accuracy * (1 - accuracy) / samples)
    assert drawn.mcg.std() == pytest.approx(expected, rel=0.1)
    assert drawn.mcg.mean() == pytest.approx(accuracy - 0.4, abs=4 * expected / np.sqrt(800))
    assert np.isnan(drawn.pearson).all()
    assert np.isnan(drawn.interval("pearson")).all()
    low, high = drawn.interval("mcg")
    assert high - low == pytest.approx(2 * 1.96 * expected, rel=0.15)


def test_bootstrap_draws_contributions_along_with_the_curve():
    rng = np.random.default_rng(3)
    correct = rng.random((3, 300)) < np.array([[0.5], [0.7], [0.9]])
    own = rng.random((4, 300)) < np.array([[0.2], [0.4], [0.5], [0.6]])
    drawn = bootstrap(
        correct, [0.25, 0.5, 1.0], own.mean(axis=1), standalone_correct=own, floors_at_contribution=True, repeats=60
    )
    assert drawn.widths.shape == (60, 4)
    assert sum(drawn.width_shares(1).values()) == pytest.approx(1)
    assert (drawn.widths[:, 3] == 1).all()
    again = bootstrap(
        correct, [0.25, 0.5, 1.0], own.mean(axis=1), standalone_correct=own, floors_at_contribution=True, repeats=60
    )
    assert np.array_equal(drawn.mcg, again.mcg)


def test_bootstrap_without_doubt_gives_one_answer():
    drawn = bootstrap(np.ones((2, 50)), [0.5, 1.0], [0.2, 0.6], repeats=20)
    assert drawn.interval("mcg") == pytest.approx((0.6, 0.6))
    assert drawn.width_shares(0) == {1.0: 1.0}


def test_bad_shapes_are_refused():
    with pytest.raises(InputError, match="correct has the shape"):
        bootstrap(np.ones((3, 50)), [0.5, 1.0], [0.2, 0.6])
    with pytest.raises(InputError, match="standalone_correct"):
        bootstrap(np.ones((2, 50)), [0.5, 1.0], [0.2, 0.6], standalone_correct=np.ones((2, 49)))
