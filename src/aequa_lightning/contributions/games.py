"""Values of players in a game: exact from one table while that is cheap, sampled above."""

import importlib.util

import numpy as np

from aequa_lightning.contributions.accumulate import RunningSum
from aequa_lightning.contributions.measure import Measure, Sampling
from aequa_lightning.contributions.sampling import sampled_banzhaf, sampled_shapley
from aequa_lightning.contributions.semivalues import (
    all_coalitions,
    banzhaf_weights,
    beta_weights,
    semivalues,
    shapley_weights,
)
from aequa_lightning.contributions.values import Utility, Values, evaluate
from aequa_lightning.errors import InputError

EXACT_UP_TO = 12
"""Players for whom all coalitions (4,096) are evaluated."""
# Independent estimates that a sampled Shapley value is the mean of; their spread is its standard error.
REPEATS = 5
# Evaluations per player that sampled values need at least.
LEAST_BUDGET = 10


def shapley_values(utility: Utility, n: int, *, budget: int | None = None, repeats: int = 5, seed: int = 0) -> Values:
    """Return Shapley values: the mean marginal worth of a player over all orders in which players may join.

    Exact up to ``EXACT_UP_TO`` players; sampled above, through shapiq (see ``sampled_shapley``).

    Args:
        utility: Worth of coalitions, bool (C, N) -> float (C,).
        n: Number of players, at least 1.
        budget: Evaluations of each repeat when sampled; 15 per player by default.
        repeats: Independent estimates when sampled.
        seed: Source of all randomness.

    Example:
        >>> glove = lambda coalitions: coalitions[:, 0] & (coalitions[:, 1] | coalitions[:, 2])
        >>> shapley_values(glove, 3).values.round(6).tolist()
        [0.666667, 0.166667, 0.166667]
    """
    if _is_small(n):
        return _exact(utility, n, shapley_weights(n))
    return sampled_shapley(utility, n, budget=15 * n if budget is None else budget, repeats=repeats, seed=seed)


def banzhaf_values(utility: Utility, n: int, *, budget: int | None = None, seed: int = 0) -> Values:
    """Return Banzhaf values: the mean marginal worth of a player over all coalitions of the others.

    Exact up to ``EXACT_UP_TO`` players; sampled above (see ``sampled_banzhaf``), 100 evaluations per player by default.

    Example:
        >>> glove = lambda coalitions: coalitions[:, 0] & (coalitions[:, 1] | coalitions[:, 2])
        >>> banzhaf_values(glove, 3).values.tolist()
        [0.75, 0.25, 0.25]
    """
    if _is_small(n):
        return _exact(utility, n, banzhaf_weights(n))
    return sampled_banzhaf(utility, n, budget=100 * n if budget is None else budget, seed=seed)


def beta_values(utility: Utility, n: int, *, a: float = 4.0, b: float = 1.0) -> Values:
    """Return Beta(a, b) values (see ``beta_weights``), for at most ``EXACT_UP_TO`` players.

    Example:
        >>> beta_values(lambda coalitions: coalitions.sum(axis=1), 3).values.round(6).tolist()
        [1.0, 1.0, 1.0]
    """
    if not _is_small(n):
        raise InputError(f"Beta values of {n} players are not offered; there may be {EXACT_UP_TO} at most.")
    return _exact(utility, n, beta_weights(n, a, b))


def leave_one_out(utility: Utility, n: int) -> Values:
    """Return what is lost when a player leaves everybody else, from n + 1 evaluations.

    Two players with the same data cancel each other: both count for nothing.

    Example:
        >>> glove = lambda coalitions: coalitions[:, 0] & (coalitions[:, 1] | coalitions[:, 2])
        >>> leave_one_out(glove, 3).values.tolist()
        [1.0, 0.0, 0.0]
    """
    _is_small(n)
    worth = evaluate(utility, np.vstack([np.ones(n, dtype=bool), ~np.eye(n, dtype=bool)]))
    return Values(worth[0] - worth[1:], np.zeros(n), n + 1)


def _exact(utility: Utility, n: int, weights: np.ndarray) -> Values:
    return Values(semivalues(evaluate(utility, all_coalitions(n)), weights), np.zeros(n), 2**n)


def _is_small(n: int) -> bool:
    if n < 1:
        raise InputError(f"n is {n}; a game has at least one player.")
    return n <= EXACT_UP_TO


def federated_shapley(game: Utility, players: int, how: Sampling) -> Values:
    """Return the Shapley values of a round, by several estimates where they are sampled."""
    return shapley_values(game, players, budget=how.budget // REPEATS, repeats=REPEATS, seed=how.seed)


def round_banzhaf(game: Utility, players: int, how: Sampling) -> Values:
    """Return the Banzhaf values of a round."""
    return banzhaf_values(game, players, budget=how.budget, seed=how.seed)


def check_budget(players: int, budget: int | None) -> None:
    """Check that sampled values of so many players may use enough evaluations.

    Args:
        players: Participants of a round, at most.
        budget: What ``trainer.assessment.budget`` says.

    Raises:
        InputError: They may not.

    Example:
        >>> check_budget(12, 1)
    """
    if players > EXACT_UP_TO and budget is not None and budget < LEAST_BUDGET * players:
        raise InputError(
            f"trainer.assessment.budget={budget} is too small for a round's {players} participants; allow "
            f"{LEAST_BUDGET * players} evaluations at least."
        )


def _check_shapley(players: int, budget: int | None) -> None:
    if players > EXACT_UP_TO and importlib.util.find_spec("shapiq") is None:
        raise InputError(
            f"measure 'fedsv' of a round's {players} participants is sampled by shapiq, which is not installed; "
            "pip install 'aequa-lightning[valuation]', measure 'banzhaf', or lower trainer.participants_per_round to "
            f"{EXACT_UP_TO}."
        )
    check_budget(players, budget)


def _check_beta(players: int, budget: int | None) -> None:
    if players > EXACT_UP_TO:
        raise InputError(
            f"measure 'beta_shapley' evaluates all coalitions of a round's {players} participants; that is offered up "
            f"to {EXACT_UP_TO}: lower trainer.participants_per_round, or measure 'fedsv', which is sampled above."
        )


FEDSV = Measure(
    "fedsv",
    "Shapley values, round by round",
    ("game", "players", "sampling"),
    federated_shapley,
    RunningSum,
    _check_shapley,
)
BANZHAF = Measure(
    "banzhaf",
    "Banzhaf values, round by round",
    ("game", "players", "sampling"),
    round_banzhaf,
    RunningSum,
    check_budget,
)
BETA_SHAPLEY = Measure(
    "beta_shapley",
    "Shapley values that favour small coalitions, round by round",
    ("game", "players"),
    beta_values,
    RunningSum,
    _check_beta,
)
LOO = Measure(
    "loo",
    "what each round’s model loses without the update (leave-one-out)",
    ("game", "players"),
    leave_one_out,
    RunningSum,
)
