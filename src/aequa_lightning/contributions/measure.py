"""What a contribution measure is: what it needs, how it scores participants, and how the rounds add up.

A measure is a pure function with the names of what it needs. What it may need is one of the following; in a round the
participants are *players*, G of them, since names that send the same update are valued as one.

========================== ===========================================================================================
``samples``                training samples of each participant, (N,); for measures without rounds
``standalone``             validation accuracy that each participant reaches alone, (N,); for measures without rounds
``weights``                weight of each player's update in the average, (G,)
``earlier``                the measure's own values before the round, (G,); zeros before the first round
``squared_lengths``        squared length of each player's update, (G,)
``comparison``             a function that compares each player's update with a weighted mean: a ``Comparison``
``update_length``          length that the mechanism brings updates to, its option ``length``
``gradient_products``      inner product of each player's update with the gradient of the validation loss, (G,)
``class_rows``             the player's update of the last layer, a row for each class, (G, K, F)
``held_class_rows``        which entries of ``class_rows`` the player holds, bool of shape (G, K, F)
``own_accuracies``         validation accuracy in [0, 1] of each player's own model, (G,)
``clipped_accuracies``     the same with updates whose entries are cut to the mechanism's option ``clip``, (G,)
``likeness``               how alike losses on each player's data and on the validation part are, in [0, 1], (G,)
``players``                number of players, G
``game``                   worth of the model had only a coalition's updates been applied: a ``Utility`` of G players
``sampling``               how values of ``game`` are estimated where there are many players: a :class:`Sampling`
========================== ===========================================================================================

Tensors are float64.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

Need = Literal[
    "samples",
    "standalone",
    "weights",
    "earlier",
    "squared_lengths",
    "comparison",
    "update_length",
    "gradient_products",
    "class_rows",
    "held_class_rows",
    "own_accuracies",
    "clipped_accuracies",
    "likeness",
    "players",
    "game",
    "sampling",
]


@dataclass(frozen=True)
class Sampling:
    """How values of a game are estimated where there are too many players for a table of all coalitions.

    Attributes:
        budget: Evaluations at most.
        seed: Source of all randomness.
    """

    budget: int
    seed: int


class Comparison(Protocol):
    """Compares each player's update with a weighted mean of all players' updates, over what the player holds."""

    def __call__(self, weights: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
        """Return products and squared lengths; a collective operation.

        Args:
            weights: Weight of each player in the mean, (G,), summing to 1.
            scales: What each player's update is multiplied with before it is averaged, (G,), in [0, 1].

        Returns:
            Inner product of each player's update with the mean, and squared length of the part of the mean that the
            player holds, (G,) each.
        """


class Accumulator(Protocol):
    """Carries the scores of a measure along, round by round.

    Attributes:
        values: The measure as it stands, float64 of shape (N,); zeros or NaN before the first round, NaN for whoever
            has no value yet.
    """

    values: Tensor

    def update(self, scores: Tensor, participants: Sequence[int] | None = None) -> Tensor:
        """Take in the scores of those who took part in a round, (K,); all by default."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""


@dataclass(frozen=True)
class Measure:
    """A contribution measure, as ``trainer.assessment.measures`` and ``mechanism.contribution`` name it.

    Attributes:
        name: Its name, and that of its column in ``contributions.csv``.
        meaning: What it measures, in half a sentence for the report.
        needs: What ``score`` is given, in this order.
        score: Returns the score of each player of a round as a tensor, (G,), or as ``Values`` with standard errors;
            for a measure without rounds that of each participant, (N,).
        accumulate: Returns, for N participants, what carries the scores along; None for a measure without rounds.
        check: Raises an ``InputError`` where a round of so many players cannot be scored with the budget of
            ``trainer.assessment.budget``; None: any can.
        counts_rounds: Whether ``accumulate`` also takes the number of rounds of the run.
    """

    name: str
    meaning: str
    needs: tuple[Need, ...]
    score: Callable[..., Any]
    accumulate: Callable[..., Accumulator] | None = None
    check: Callable[[int, int | None], None] | None = None
    counts_rounds: bool = False

    def accumulator(self, participants: int, *, run_rounds: int) -> Accumulator:
        """Return what carries the scores of a run along; only for measures with rounds.

        Args:
            participants: Their number.
            run_rounds: Number of rounds of the run.
        """
        assert self.accumulate is not None
        return self.accumulate(participants, run_rounds) if self.counts_rounds else self.accumulate(participants)


def unchanged(values: Tensor) -> Tensor:
    """Return what a measure needs as its score, (G,).

    Example:
        >>> import torch
        >>> unchanged(torch.tensor([0.5, 0.25])).tolist()
        [0.5, 0.25]
    """
    return values
