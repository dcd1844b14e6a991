"""Values of players in a game: exact from one table while that is cheap, sampled above."""

import numpy as np

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


def individual_values(utility: Utility, n: int) -> Values:
    """Return what a player is worth alone, beyond the empty coalition, from n + 1 evaluations.

    Example:
        >>> individual_values(lambda coalitions: 0.5 + coalitions.sum(axis=1), 2).values.tolist()
        [1.0, 1.0]
    """
    _is_small(n)
    worth = evaluate(utility, np.vstack([np.zeros(n, dtype=bool), np.eye(n, dtype=bool)]))
    return Values(worth[1:] - worth[0], np.zeros(n), n + 1)


def _exact(utility: Utility, n: int, weights: np.ndarray) -> Values:
    return Values(semivalues(evaluate(utility, all_coalitions(n)), weights), np.zeros(n), 2**n)


def _is_small(n: int) -> bool:
    if n < 1:
        raise InputError(f"n is {n}; a game has at least one player.")
    return n <= EXACT_UP_TO
