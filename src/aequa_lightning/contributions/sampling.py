"""Estimates for games with too many players for a table of all coalitions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.contributions.values import Coalitions, Utility, Values, evaluate
from aequa_lightning.errors import InputError


class CachedUtility:
    """A utility that is never asked twice for the same coalition.

    Args:
        utility: See ``Utility``.

    Example:
        >>> asked = CachedUtility(lambda coalitions: coalitions.sum(axis=1))
        >>> asked(np.array([[True, False], [True, False]])).tolist(), asked(np.array([[True, False]])).tolist()
        ([1.0, 1.0], [1.0])
        >>> asked.evaluations
        1
    """

    def __init__(self, utility: Utility) -> None:
        self._utility = utility
        self._known: dict[bytes, float] = {}

    @property
    def evaluations(self) -> int:
        """How many different coalitions were evaluated."""
        return len(self._known)

    def __call__(self, coalitions: Coalitions) -> NDArray[np.float64]:
        """Return the worth of each coalition, (C,), evaluating in one call those that are new."""
        rows = np.asarray(coalitions, dtype=bool)
        keys = [row.tobytes() for row in rows]
        unknown = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._known}
        if unknown:
            worth = evaluate(self._utility, np.array(list(unknown.values())))
            self._known.update(zip(unknown, worth.tolist(), strict=True))
        return np.array([self._known[key] for key in keys])


def sampled_shapley(utility: Utility, n: int, *, budget: int, repeats: int = 5, seed: int = 0) -> Values:
    """Estimate Shapley values with shapiq: paired KernelSHAP for small budgets, SVARM for larger ones.

    KernelSHAP (Lundberg and Lee, NeurIPS 2017; paired: Covert and Lee, AISTATS 2021) is the better one up to about 15
    evaluations a player, SVARM (Kolpaczki et al., AAAI 2024) beyond. Independent repeats share one memo; the standard
    error is that of their mean.

    Args:
        utility: See ``Utility``.
        n: Number of players.
        budget: Evaluations for each repeat, at least n + 2.
        repeats: Independent estimates, at least 2.
        seed: Source of all randomness.

    Raises:
        InputError: When shapiq is not installed, or a number is out of range.
    """
    if budget < n + 2 or repeats < 2:
        raise InputError(
            f"budget={budget}, repeats={repeats}: {n} players need a budget of {n + 2} and 2 repeats at least."
        )
    game = CachedUtility(utility)
    nothing = float(game(np.zeros((1, n), dtype=bool))[0])
    estimates = np.array(
        [
            _approximate(_approximator(n, budget, seed + repeat), lambda rows: game(rows) - nothing, budget, n)
            for repeat in range(repeats)
        ]
    )
    return Values(estimates.mean(axis=0), estimates.std(axis=0, ddof=1) / np.sqrt(repeats), game.evaluations)


def sampled_banzhaf(utility: Utility, n: int, *, budget: int, seed: int = 0) -> Values:
    """Estimate Banzhaf values by the maximum sample reuse principle: every random coalition serves every player.

    The value is the mean worth of the coalitions with the player less that of those without (Wang and Jia, "Data
    Banzhaf", AISTATS 2023).

    Args:
        utility: See ``Utility``.
        n: Number of players.
        budget: Random coalitions to evaluate, at least 8.
        seed: Source of all randomness.

    Raises:
        InputError: When the budget is so small that a player was always present or always absent.

    Example:
        >>> values = sampled_banzhaf(lambda coalitions: coalitions @ np.array([1.0, 3.0]), 2, budget=4000)
        >>> bool((abs(values.values - [1, 3]) < 4 * values.standard_errors).all())
        True
    """
    game = CachedUtility(utility)
    present = np.random.default_rng(seed).random((budget, n)) < 0.5
    worth = game(present)
    with_player, without = present.sum(axis=0), (~present).sum(axis=0)
    if min(with_player.min(), without.min()) < 2:
        raise InputError(f"budget={budget} is too small for {n} players; allow at least {max(16, 4 * n)}.")
    means = present.T @ worth / with_player, (~present).T @ worth / without
    squares = present.T @ worth**2 / with_player, (~present).T @ worth**2 / without
    variances = (np.maximum(square - mean**2, 0.0) for square, mean in zip(squares, means, strict=True))
    of_mean = (variance / (count - 1) for variance, count in zip(variances, (with_player, without), strict=True))
    return Values(means[0] - means[1], np.sqrt(sum(of_mean)), game.evaluations)


def _approximator(n: int, budget: int, seed: int) -> Any:
    try:
        from shapiq import approximator
    except ImportError as error:
        raise InputError(
            f"Shapley values of {n} players are sampled by shapiq, which is not installed; "
            "pip install 'aequa-lightning[valuation]', or merge players until there are at most 12."
        ) from error
    if budget <= 15 * n:
        return approximator.KernelSHAP(n=n, pairing_trick=True, random_state=seed)
    return approximator.SVARM(n=n, random_state=seed)


def _approximate(approximator: Any, game: Utility, budget: int, n: int) -> NDArray[np.float64]:
    result = approximator.approximate(budget=budget, game=game)
    return np.array([result[(player,)] for player in range(n)], dtype=np.float64)
