import sys

import numpy as np
import pytest

from aequa_lightning.contributions import (
    banzhaf_values,
    guided_shapley,
    sampled_banzhaf,
    sampled_shapley,
    shapley_values,
)
from aequa_lightning.contributions.sampling import CachedUtility
from aequa_lightning.contributions.semivalues import all_coalitions
from aequa_lightning.errors import InputError

STRENGTHS = np.linspace(0.1, 1.0, 8)


def saturating(coalitions):
    """Worth that saturates, as accuracy does; a player is worth less the more others there are."""
    return 1 - np.exp(-(coalitions @ STRENGTHS))


def test_memo_asks_once_for_each_coalition():
    asked = []

    def utility(coalitions):
        asked.append(len(coalitions))
        return coalitions.sum(axis=1).astype(float)

    memo = CachedUtility(utility)
    rows = all_coalitions(3)
    assert memo(np.vstack([rows, rows])).tolist() == [*rows.sum(axis=1), *rows.sum(axis=1)]
    assert memo(rows[:4]).tolist() == rows[:4].sum(axis=1).tolist()
    assert asked == [8]
    assert memo.evaluations == 8


def test_sampled_banzhaf_is_unbiased_and_its_standard_errors_are_right():
    exact = np.asarray(banzhaf_values(saturating, 8))
    runs = [sampled_banzhaf(saturating, 8, budget=200, seed=seed) for seed in range(300)]
    errors = np.array([run.values for run in runs]) - exact
    stated = np.mean([run.standard_errors for run in runs], axis=0)
    assert (np.abs(errors.mean(axis=0)) < 4 * errors.std(axis=0) / np.sqrt(300)).all()
    assert stated == pytest.approx(errors.std(axis=0), rel=0.15)


def test_banzhaf_of_many_players_is_sampled():
    values = banzhaf_values(lambda c: c @ np.arange(13.0), 13, budget=20_000)
    assert np.allclose(values, np.arange(13.0), atol=5 * values.standard_errors.max())
    with pytest.raises(InputError, match="too small for 13"):
        banzhaf_values(lambda c: c @ np.arange(13.0), 13, budget=2)


def test_guided_shapley_comes_close_and_adds_up():
    exact = np.asarray(shapley_values(saturating, 8))
    values = guided_shapley(saturating, 8, order_tolerance=0.0, least_orders=150)
    assert np.sum(values) == pytest.approx(exact.sum())
    assert np.abs(values - exact).max() < 4 * values.standard_errors.max()
    assert values.evaluations <= 256


def test_guided_shapley_skips_rounds_that_bring_nothing_and_truncates():
    assert guided_shapley(lambda c: np.full(len(c), 0.5), 4).evaluations == 2
    cut = guided_shapley(saturating, 8, order_tolerance=0.2, least_orders=30, most_orders=30)
    whole = guided_shapley(saturating, 8, order_tolerance=0.0, least_orders=30, most_orders=30)
    assert cut.evaluations < whole.evaluations
    with pytest.raises(InputError, match="least_orders"):
        guided_shapley(saturating, 8, least_orders=300)


def test_missing_shapiq_is_one_clear_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "shapiq", None)
    with pytest.raises(InputError, match="valuation"):
        shapley_values(lambda c: c.sum(axis=1), 13)
    with pytest.raises(InputError, match="budget of 15"):
        sampled_shapley(lambda c: c.sum(axis=1), 13, budget=10)


@pytest.mark.parametrize("budget", [100, 400])
def test_shapley_of_many_players_is_sampled_with_honest_errors(budget):
    pytest.importorskip("shapiq", reason="shapiq is not installed (the extra 'valuation')")
    strengths = np.linspace(0, 1, 13)
    values = shapley_values(lambda c: c @ strengths + 0.3, 13, budget=budget)
    assert np.allclose(values, strengths, atol=0.02 + 5 * values.standard_errors.max())


@pytest.mark.parametrize("seed", range(3))
def test_exact_values_agree_with_shapiq(seed):
    shapiq = pytest.importorskip("shapiq", reason="shapiq is not installed (the extra 'valuation')")
    table = np.random.default_rng(seed).normal(size=256)
    table[0] = 0.0

    def game(coalitions):
        return table[np.asarray(coalitions) @ (1 << np.arange(8))]

    exact = shapiq.ExactComputer(game=game, n_players=8)
    for name, values in (("SV", shapley_values(game, 8)), ("BV", banzhaf_values(game, 8))):
        reference = exact(name, 1)
        assert np.allclose(values, [reference[(player,)] for player in range(8)], atol=1e-9)
