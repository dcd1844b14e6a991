import numpy as np
import pytest
from scipy import stats

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.allocation import fairness


@pytest.mark.parametrize("seed", range(20))
def test_fairness_figures_agree_with_scipy(seed):
    rng = np.random.default_rng(seed)
    brought, received = rng.random((2, rng.integers(2, 30)))
    won = received - brought
    assert fairness.mean_gain(brought, received) == pytest.approx(np.mean(won))
    assert fairness.gain_spread(brought, received) == pytest.approx(np.sqrt(stats.moment(won, 2)))
    assert fairness.pearson(brought, received) == pytest.approx(stats.pearsonr(brought, received).statistic)
    assert fairness.minimum_gain(brought, received) == won.min()


@pytest.mark.parametrize(("brought", "received"), [([0.1, 0.2], [0.7, 0.7]), ([0.3, 0.3], [0.1, 0.2]), ([0.1], [0.2])])
def test_fairness_correlation_with_a_constant_is_undefined(brought, received):
    assert fairness.pearson(brought, received) is None


def test_fairness_correlation_of_tiny_differences_is_exact():
    assert fairness.pearson([0, 1e-200, 2e-200], [0.5, 0.6, 0.7]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("brought", "received", "word"),
    [([0.1], [0.1, 0.2], "pair up"), ([], [], "pair up"), ([np.nan], [0.1], "finite"), ([0.1], [np.inf], "finite")],
)
def test_fairness_names_bad_input(brought, received, word):
    with pytest.raises(InputError, match=word):
        fairness.mean_gain(brought, received)
