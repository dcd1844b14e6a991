"""GTG-Shapley: Shapley values by guided and truncated orders (Liu et al., ACM TIST 13(4), 2022), kept as a baseline."""

import numpy as np

from aequa_lightning.contributions.accumulate import RunningSum
from aequa_lightning.contributions.measure import Measure, Sampling
from aequa_lightning.contributions.sampling import CachedUtility
from aequa_lightning.contributions.values import Utility, Values
from aequa_lightning.errors import InputError

# A value has converged when its running means moved less than 5 % over the last ten orders.
_WINDOW = 10
_MOVEMENT = 0.05


def guided_shapley(
    utility: Utility,
    n: int,
    *,
    round_tolerance: float = 1e-3,
    order_tolerance: float = 1e-3,
    least_orders: int = 30,
    most_orders: int = 200,
    seed: int = 0,
) -> Values:
    """Estimate Shapley values from orders of joining that begin with every player in turn.

    A round whose total worth is small is skipped, an order ends once it is close to the worth of all, and sampling ends
    once the running means have settled. Truncation biases the values, but they always add up to the worth of all
    where no order is cut short.

    Args:
        utility: See ``Utility``.
        n: Number of players.
        round_tolerance: Skip everything when v(all) - v(none) is at most this in size.
        order_tolerance: End an order when what is left of it is at most this in size.
        least_orders: Orders before convergence is looked at.
        most_orders: Orders at most.
        seed: Source of all randomness.

    Example:
        >>> guided_shapley(lambda coalitions: coalitions @ np.array([1.0, 3.0]), 2).values.tolist()
        [1.0, 3.0]
    """
    if n < 1 or not 2 <= least_orders <= most_orders:
        raise InputError(
            f"n={n}, least_orders={least_orders}, most_orders={most_orders}: need n >= 1 and 2 <= least <= most."
        )
    game = CachedUtility(utility)
    nothing, everything = game(np.array([np.zeros(n, dtype=bool), np.ones(n, dtype=bool)]))
    if abs(everything - nothing) <= round_tolerance:
        return Values(np.zeros(n), np.zeros(n), game.evaluations)
    rng = np.random.default_rng(seed)
    marginals: list[np.ndarray] = []
    while len(marginals) < most_orders and not _has_settled(marginals, least_orders):
        first = len(marginals) % n
        order = np.concatenate(([first], rng.permutation(np.delete(np.arange(n), first))))
        marginals.append(_walk(game, order, nothing, everything, order_tolerance))
    table = np.array(marginals)
    errors = table.std(axis=0, ddof=1) / np.sqrt(len(table))
    return Values(table.mean(axis=0), errors, game.evaluations)


def _walk(game: CachedUtility, order: np.ndarray, nothing: float, everything: float, tolerance: float) -> np.ndarray:
    """Return what each player adds when it joins in this order; nothing for those after the truncation."""
    added = np.zeros(len(order))
    members = np.zeros(len(order), dtype=bool)
    before = nothing
    for player in order:
        if abs(everything - before) <= tolerance:
            break
        members[player] = True
        after = float(game(members[None])[0])
        added[player], before = after - before, after
    return added


def _has_settled(marginals: list[np.ndarray], least_orders: int) -> bool:
    if len(marginals) < max(least_orders, _WINDOW + 1):
        return False
    table = np.array(marginals)
    means = table.cumsum(axis=0) / np.arange(1, len(table) + 1)[:, None]
    movement = np.abs(means[-_WINDOW - 1 : -1] - means[-1]).mean(axis=0)
    return bool((movement <= _MOVEMENT * np.maximum(np.abs(means[-1]), 1e-12)).all())


def _of_round(game: Utility, players: int, how: Sampling) -> Values:
    return guided_shapley(game, players, seed=how.seed)


GTG_SHAPLEY = Measure(
    "gtg_shapley",
    "Shapley values by guided, truncated orders (GTG-Shapley)",
    ("game", "players", "sampling"),
    _of_round,
    RunningSum,
)
