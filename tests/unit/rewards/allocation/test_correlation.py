import numpy as np
import pytest

from aequa_lightning.rewards.allocation.correlation import Plane, cover, maximise
from aequa_lightning.rewards.allocation.problem import build_problem


def random_plane(seed, groups=12, levels=5):
    rng = np.random.default_rng(seed)
    contributions = np.sort(rng.normal(size=groups))
    counts = rng.integers(1, 4, groups)
    contributions -= np.average(contributions, weights=counts)
    accuracies = np.sort(rng.uniform(-0.4, 0.4, levels))
    return rng, Plane(contributions, counts, (accuracies[1:] + accuracies[:-1]) / 2), accuracies


def support_of(plane, accuracies):
    """h from its definition, participant by participant."""

    def support(corners, origins):
        alpha, beta = (part[..., None, None] for part in plane.lines(corners, origins[:, None]))
        shifted = accuracies - origins[:, None, None, None]
        costs = beta * shifted**2 - 2 * (plane.contributions[:, None] - alpha) * shifted
        return costs.min(axis=-1) @ plane.counts

    return support


@pytest.mark.parametrize("seed", range(20))
def test_bound_of_a_triangle_holds_everywhere_in_it(seed):
    rng, plane, accuracies = random_plane(seed)
    p = rng.uniform(-2, 2, (50, 3, 1))
    corners = np.concatenate((p, p + rng.uniform(0, 2, (50, 3, 1))), axis=2)
    corners[:, :, :] = corners[:, :1] + rng.choice([0.05, 0.3, 1.0], (50, 1, 1)) * (corners - corners[:, :1])
    origins = plane.origins(corners)
    support = support_of(plane, accuracies)
    bounds = plane.bounds(corners, origins, support(corners, origins))
    weights = rng.dirichlet(np.ones(3), (50, 200))
    inside = weights @ corners
    alpha, beta = plane.lines(inside)
    distances = (plane.contributions[:, None] - alpha[..., None, None] - beta[..., None, None] * accuracies) ** 2
    residuals = distances.min(axis=-1) @ plane.counts / plane.total
    assert (residuals >= bounds[:, None] - 1e-12).all()
    assert np.isclose(residuals.min(axis=1), bounds, atol=0.02).mean() > 0.2  # and it is not far off


@pytest.mark.parametrize("seed", range(10))
def test_cover_tells_an_attained_value_from_one_that_is_too_high(seed):
    rng = np.random.default_rng(seed)
    contributions = rng.uniform(0.1, 0.9, 40)
    curve = {(k + 1) / 5: float(level) for k, level in enumerate(np.sort(rng.uniform(0.2, 0.95, 5)))}
    problem = build_problem(contributions, curve, pin_top=False)
    levels, proof = maximise(problem)
    received = problem.curve.accuracies[levels][problem.group]
    least = 1 - np.corrcoef(contributions, received)[0, 1] ** 2
    assert proof["bound"] == pytest.approx(least, abs=1e-12)
    accuracies = problem.curve.accuracies - problem.curve.accuracies.mean()
    centred = np.sort(contributions) - contributions.mean()
    plane = Plane(centred, np.ones(40, dtype=int), (accuracies[1:] + accuracies[:-1]) / 2)
    support = support_of(plane, accuracies)
    assert cover(plane, support, lambda: least)[0] >= least - 1e-12
    assert cover(plane, support, lambda: least + 1e-4)[0] < least + 1e-4


def test_levels_that_lie_close_together_cost_no_digits():
    rng = np.random.default_rng(3)
    contributions = rng.uniform(0.1, 0.9, 30)
    curve = {0.2: 0.5, 0.4: 0.5 + 1e-7, 0.6: 0.5 + 3e-7, 0.8: 0.9, 1.0: 0.9 + 1e-7}
    problem = build_problem(contributions, curve, pin_top=False)
    levels, proof = maximise(problem)
    received = problem.curve.accuracies[levels][problem.group]
    value = np.corrcoef(contributions, received)[0, 1]
    # Scale is free: three levels within 3e-7 of each other serve as well as if they were far apart.
    stretched = build_problem(contributions, {0.2: 0.1, 0.4: 0.2, 0.6: 0.4}, pin_top=False)
    far_apart = stretched.curve.accuracies[maximise(stretched)[0]][stretched.group]
    assert value >= np.corrcoef(contributions, far_apart)[0, 1] - 1e-9
    assert proof["bound"] == pytest.approx(1 - value**2, abs=1e-9)
