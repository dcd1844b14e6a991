"""Measures that ask what the model would be worth had only some of a round's updates been applied."""

import importlib.util
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from aequa_lightning.callbacks.assessment.screening import GateResult
from aequa_lightning.callbacks.assessment.valuation import coalition_utility
from aequa_lightning.contributions import utilities
from aequa_lightning.contributions.games import (
    EXACT_UP_TO,
    banzhaf_values,
    beta_values,
    leave_one_out,
    shapley_values,
)
from aequa_lightning.contributions.gtg_shapley import guided_shapley
from aequa_lightning.contributions.sampling import CachedUtility
from aequa_lightning.contributions.values import Utility, Values
from aequa_lightning.engine.callback import RoundResult
from aequa_lightning.engine.processes.seeding import derive_seed
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.collectives import gather
from aequa_lightning.errors import InputError

# Independent estimates that a sampled Shapley value is the mean of; their spread is its standard error.
REPEATS = 5
# Evaluations per player where values are sampled: what is done unless asked otherwise, and the least to ask for.
DEFAULT_BUDGET, LEAST_BUDGET = 75, 10


@dataclass(frozen=True)
class Sampling:
    """How values are estimated where there are too many players for a table of all coalitions.

    Attributes:
        budget: Evaluations at most.
        seed: Source of all randomness.
    """

    budget: int
    seed: int


COALITION_MEASURES: Mapping[str, Callable[[Utility, int, Sampling], Values]] = {
    "fedsv": lambda game, n, how: shapley_values(game, n, budget=how.budget // REPEATS, repeats=REPEATS, seed=how.seed),
    "banzhaf": lambda game, n, how: banzhaf_values(game, n, budget=how.budget, seed=how.seed),
    "beta_shapley": lambda game, n, how: beta_values(game, n),
    "loo": lambda game, n, how: leave_one_out(game, n),
    "gtg_shapley": lambda game, n, how: guided_shapley(game, n, seed=how.seed),
}
"""Values of n players of a game, by measure; all ask the same game."""


def check_coalitions(measures: Collection[str], *, players: int, budget: int | None) -> None:
    """Prove that the values of a round's coalitions can be computed.

    Args:
        measures: Names of ``COALITION_MEASURES``.
        players: Participants of a round, at most.
        budget: What ``trainer.assessment.budget`` says.

    Raises:
        InputError: A measure needs a table of all coalitions, a package that is missing, or a larger budget.

    Example:
        >>> check_coalitions(["fedsv"], players=12, budget=None)
    """
    if players <= EXACT_UP_TO:
        return
    if "beta_shapley" in measures:
        raise InputError(
            f"measure 'beta_shapley' evaluates all coalitions of a round's {players} participants; that is offered up "
            f"to {EXACT_UP_TO}: lower trainer.participants_per_round, or measure 'fedsv', which is sampled above."
        )
    if "fedsv" in measures and importlib.util.find_spec("shapiq") is None:
        raise InputError(
            f"measure 'fedsv' of a round's {players} participants is sampled by shapiq, which is not installed; "
            "pip install 'aequa-lightning[valuation]', measure 'banzhaf', or lower trainer.participants_per_round to "
            f"{EXACT_UP_TO}."
        )
    if budget is not None and budget < LEAST_BUDGET * players and {"fedsv", "banzhaf"} & set(measures):
        raise InputError(
            f"trainer.assessment.budget={budget} is too small for a round's {players} participants; allow "
            f"{LEAST_BUDGET * players} evaluations at least."
        )


def coalition_scores(
    run: Run,
    result: RoundResult,
    screened: GateResult,
    *,
    base: Tensor,
    utility: str,
    measures: Collection[str],
    budget: int | None,
) -> dict[str, Values]:
    """Return the values of the round's game, whose worth is that of the model with the steps of a coalition only.

    Args:
        run: The run, at the end of a round.
        result: The round.
        screened: Who is valued.
        base: Parameters at the start of the round, shape (P,).
        utility: Name of a function of ``contributions.utilities``.
        measures: Names of ``COALITION_MEASURES``; no coalition is evaluated twice.
        budget: Evaluations where values are sampled; None: ``DEFAULT_BUDGET`` for each player.

    Returns:
        Values of the G players, by measure; the same in every process.
    """
    steps = {index: _step(result, index) for index in result.updates if index in result.weights}
    moved = gather(steps, screened.participants, run.topology, start=0, end=len(base), dtype=base.dtype)
    players = torch.zeros(len(set(screened.group)), len(base), dtype=base.dtype, device=base.device)
    for player, step in zip(screened.group, moved, strict=True):
        players[player] += step
    game = CachedUtility(coalition_utility(run, base, players, getattr(utilities, utility)))
    how = Sampling(
        DEFAULT_BUDGET * len(players) if budget is None else budget,
        # Libraries take seeds of 32 bits, and count on from them.
        derive_seed(run.plan.seed, "coalitions", result.round) % 2**31,
    )
    return {name: COALITION_MEASURES[name](game, len(players), how) for name in measures}


def _step(result: RoundResult, index: int) -> Tensor:
    """Return how far a participant moved the server: its weighted share of the average, shape (P,)."""
    update = result.updates[index]
    weighted = update.double() * result.weights[index]
    return torch.where(result.coverage > 0, weighted / result.coverage, 0.0).to(update.dtype)
