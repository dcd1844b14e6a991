"""What a contribution measure is: what it needs, how it scores participants, and how the rounds add up.

A measure is a pure function with the names of what it needs. What it may need is one of the following; in a round the
participants are *players*, G of them, since names that send the same update are valued as one.

========================== ===========================================================================================
``samples``                training samples of each participant, (N,); for measures without rounds
``standalone``             validation accuracy that each participant reaches alone, (N,); for measures without rounds
``weights``                weight of each player's update in the average, (G,)
``valued``                 number of participants that are valued in the round
``participants``           number of participants of the run, N
``squared_lengths``        squared length of each player's update, (G,)
``aggregate_products``     inner product of each player's update with the aggregate, (G,)
``aggregate_squares``      squared length of the part of the aggregate that the player holds, (G,)
``gradient_products``      inner product of each player's update with the gradient of the validation loss, (G,)
``class_rows``             the player's update of the last layer, a row for each class, (G, K, F)
``aggregate_class_rows``   the same of the aggregate, zero where the player holds nothing, (G, K, F)
``own_accuracies``         validation accuracy in [0, 1] of each player's own model, (G,)
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
    "valued",
    "participants",
    "squared_lengths",
    "aggregate_products",
    "aggregate_squares",
    "gradient_products",
    "class_rows",
    "aggregate_class_rows",
    "own_accuracies",
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


class Accumulator(Protocol):
    """Carries the scores of a measure along, round by round.

    Attributes:
        values: The measure as it stands, float64 of shape (N,); NaN for whoever has not taken part yet.
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
    """

    name: str
    meaning: str
    needs: tuple[Need, ...]
    score: Callable[..., Any]
    accumulate: Callable[[int], Accumulator] | None = None
    check: Callable[[int, int | None], None] | None = None
