import numpy as np
import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.rewards import allocate_widths, bootstrap, pareto_front


def test_frontier_holds_every_optimum_and_nothing_admissible_is_above_its_hull(random_cases, admissible):
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


def test_frontier_is_thinned_to_the_points_asked_for():
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


def test_bootstrap_agrees_with_the_binomial_deviation_of_a_mean():
    rng = np.random.default_rng(2)
    samples = 400
    correct = rng.random((3, samples)) < np.array([[0.5], [0.7], [0.9]])
    drawn = bootstrap(correct[:, :, None], [0.25, 0.5, 1.0], [0.2, 0.4, 0.6], objective="full", repeats=800)
    accuracy = correct[2].mean()
    expected = np.sqrt(accuracy * (1 - accuracy) / samples)
    assert drawn.mcg.std() == pytest.approx(expected, rel=0.1)
    assert drawn.mcg.mean() == pytest.approx(accuracy - 0.4, abs=4 * expected / np.sqrt(800))
    assert np.isnan(drawn.pearson).all()
    assert np.isnan(drawn.interval("pearson")).all()
    low, high = drawn.interval("mcg")
    assert high - low == pytest.approx(2 * 1.96 * expected, rel=0.15)


def test_bootstrap_without_doubt_gives_one_answer():
    drawn = bootstrap(np.ones((2, 50, 1)), [0.5, 1.0], [0.2, 0.6], repeats=20)
    assert drawn.interval("mcg") == pytest.approx((0.6, 0.6))
    assert drawn.width_shares(0) == {1.0: 1.0}


def test_bootstrap_refuses_bad_shapes():
    with pytest.raises(InputError, match="statistics have the shape"):
        bootstrap(np.ones((3, 50, 1)), [0.5, 1.0], [0.2, 0.6])
