from itertools import permutations
from math import factorial

import numpy as np
import pytest

from aequa_lightning.contributions import banzhaf_values, beta_values, leave_one_out, shapley_values
from aequa_lightning.contributions.semivalues import (
    all_coalitions,
    banzhaf_weights,
    beta_weights,
    semivalues,
    shapley_weights,
)
from aequa_lightning.errors import InputError


def random_game(n, seed):
    table = np.random.default_rng(seed).normal(size=2**n)
    return table, lambda coalitions: table[coalitions @ (1 << np.arange(n))]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_shapley_is_the_mean_over_all_orders(n):
    table, game = random_game(n, seed=n)
    expected = np.zeros(n)
    for order in permutations(range(n)):
        members = 0
        for player in order:
            expected[player] += (table[members | 1 << player] - table[members]) / factorial(n)
            members |= 1 << player
    values = shapley_values(game, n)
    assert np.allclose(values, expected, atol=1e-12)
    assert np.sum(values) == pytest.approx(table[-1] - table[0])
    assert values.evaluations == 2**n
    assert (values.standard_errors == 0).all()


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_banzhaf_is_the_mean_over_all_coalitions_of_the_others(n):
    table, game = random_game(n, seed=n)
    expected = [np.mean([table[s | 1 << i] - table[s] for s in range(2**n) if not s >> i & 1]) for i in range(n)]
    assert np.allclose(banzhaf_values(game, n), expected, atol=1e-12)


@pytest.mark.parametrize(("a", "b"), [(4, 1), (16, 1), (1, 4), (2.5, 0.5)])
@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_weights_of_every_semivalue_are_a_distribution_over_coalitions(n, a, b):
    binomials = [factorial(n - 1) // factorial(s) // factorial(n - 1 - s) for s in range(n)]
    for weights in (beta_weights(n, a, b), shapley_weights(n), banzhaf_weights(n)):
        assert np.dot(binomials, weights) == pytest.approx(1.0)
    by_size = binomials * beta_weights(n, a, b)
    if n > 1:
        assert (np.dot(np.arange(n), by_size) < (n - 1) / 2) == (a > b)


def test_beta_one_one_is_shapley_and_leave_one_out_is_the_last_marginal():
    table, game = random_game(5, seed=0)
    assert np.allclose(beta_values(game, 5, a=1, b=1), shapley_values(game, 5), atol=1e-12)
    assert np.allclose(leave_one_out(game, 5), [table[31] - table[31 ^ 1 << i] for i in range(5)])
    assert leave_one_out(game, 5).evaluations == 6


def test_null_player_and_twins():
    def game(coalitions):  # players 1 and 2 hold the same data, player 3 none
        return coalitions[:, 0] * 1.0 + (coalitions[:, 1] | coalitions[:, 2]) * 2.0

    for estimator in (shapley_values, banzhaf_values, beta_values):
        values = np.asarray(estimator(game, 4))
        assert values[3] == pytest.approx(0, abs=1e-12)
        assert values[1] == pytest.approx(values[2])
        assert values[0] == pytest.approx(1)
    assert np.allclose(leave_one_out(game, 4), [1, 0, 0, 0])


def test_table_order_is_that_of_the_coalitions():
    assert all_coalitions(3)[0b110].tolist() == [False, True, True]
    with pytest.raises(InputError, match="does not hold the 4 coalitions"):
        semivalues(np.zeros(8), shapley_weights(2))


@pytest.mark.parametrize(
    ("answer", "word"),
    [(lambda c: np.zeros(3), "shape"), (lambda c: np.where(c[:, 1], np.nan, 0.0), r"coalition \[1\]")],
)
def test_bad_utility_is_named(answer, word):
    with pytest.raises(InputError, match=word):
        shapley_values(answer, 2)


def test_bad_numbers_are_named():
    with pytest.raises(InputError, match="n is 0"):
        shapley_values(lambda c: np.zeros(len(c)), 0)
    with pytest.raises(InputError, match="Beta"):
        beta_weights(3, 0, 1)
    with pytest.raises(InputError, match="Beta values of 13"):
        beta_values(lambda c: np.zeros(len(c)), 13)
