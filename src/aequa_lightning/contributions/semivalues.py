"""Exact semivalues: every one of them is a weighted sum over the same table of all coalitions.

A semivalue of player i is the sum over coalitions S without i of w(|S|) (v(S + i) - v(S)), with weights that depend
on the size alone and of which sum_s binom(n - 1, s) w(s) = 1 (Dubey, Neyman and Weber, Mathematics of Operations
Research 6, 1981).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import beta

from aequa_lightning.contributions.values import Coalitions
from aequa_lightning.errors import InputError

Array = NDArray[np.float64]


def all_coalitions(n: int) -> Coalitions:
    """Return all 2^n coalitions; row k holds player i when bit i of k is set.

    Example:
        >>> all_coalitions(2).astype(int).tolist()
        [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    return np.asarray((np.arange(2**n)[:, None] >> np.arange(n)) & 1, dtype=bool)


def semivalues(table: ArrayLike, weights: ArrayLike) -> Array:
    """Return the semivalue of every player.

    Args:
        table: Worth of all coalitions in the order of ``all_coalitions``, (2^n,).
        weights: w(s) for the size s = 0..n - 1 of the coalition that the player joins, (n,).

    Returns:
        One value per player, (n,).

    Raises:
        InputError: When the lengths do not fit.

    Example:
        >>> semivalues([0.0, 1.0, 2.0, 5.0], shapley_weights(2)).tolist()
        [2.0, 3.0]
    """
    worth, weight = np.asarray(table, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if worth.shape != (2 ** len(weight),):
        raise InputError(
            f"a table of shape {worth.shape} does not hold the {2 ** len(weight)} coalitions of {len(weight)}."
        )
    coalitions = all_coalitions(len(weight))
    size = coalitions.sum(axis=1)
    joined = np.append(weight, 0.0)[size - 1] * worth  # the empty coalition has no members: its weight is never used
    left = np.append(weight, 0.0)[size] * worth
    return np.asarray(coalitions.T @ joined - (~coalitions).T @ left)


def shapley_weights(n: int) -> Array:
    """Return the Shapley value's weights, s! (n - 1 - s)! / n!.

    Example:
        >>> shapley_weights(3).round(6).tolist()
        [0.333333, 0.166667, 0.333333]
    """
    return beta_weights(n, 1.0, 1.0)


def beta_weights(n: int, a: float, b: float) -> Array:
    """Return the weights of Beta(a, b), B(s + b, n - 1 - s + a) / B(a, b).

    Large ``a`` favours small coalitions, large ``b`` large ones; Beta(1, 1) is the Shapley value (Kwon and Zou, "Beta
    Shapley", AISTATS 2022).

    Args:
        n: Number of players.
        a: First parameter, above 0.
        b: Second parameter, above 0.

    Example:
        >>> beta_weights(2, 3.0, 1.0).round(6).tolist()
        [0.75, 0.25]
    """
    if not (a > 0 and b > 0):
        raise InputError(f"Beta({a}, {b}) is undefined; both parameters must be above 0.")
    size = np.arange(n)
    return np.asarray(beta(size + b, n - 1 - size + a) / beta(a, b))


def banzhaf_weights(n: int) -> Array:
    """Return the Banzhaf value's weights, 2^(1 - n) for every size.

    Example:
        >>> banzhaf_weights(3).tolist()
        [0.25, 0.25, 0.25]
    """
    return np.full(n, 0.5 ** (n - 1))
