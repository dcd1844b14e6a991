"""Reputations of CFFL and RFFL, which drop participants with too small a share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.contributions.cosine import cosines_with_shortened_updates
from aequa_lightning.contributions.measure import Measure, unchanged
from aequa_lightning.errors import InputError


class Reputation(ABC):
    """A smoothed reputation that sums to 1 over those who are still in, and that drops whoever falls too low.

    Attributes:
        values: Reputations, float64 of shape (N,); zeros before the first round.
        remaining: Who is still in, bool of shape (N,).

    Args:
        participants: Their number.
        decay: Share of the old reputation that is kept, in [0, 1).
        threshold: Whoever has less than this share of the equal part 1 / (number still in) is dropped for good, in
            [0, 1).
        warm_up: Rounds in which nobody is dropped.

    Raises:
        InputError: A value is out of range.
    """

    def __init__(self, participants: int, *, decay: float, threshold: float, warm_up: int) -> None:
        if not (0 <= decay < 1 and 0 <= threshold < 1):
            raise InputError(f"decay={decay} and threshold={threshold} must lie in [0, 1).")
        self.decay, self.threshold, self.warm_up = decay, threshold, warm_up
        self.rounds = 0
        self.values = torch.zeros(participants, dtype=torch.float64)
        self.remaining = torch.ones(participants, dtype=torch.bool)
        self.seen = torch.zeros(participants, dtype=torch.bool)

    def update(self, scores: Tensor, participants: Sequence[int] | None = None) -> Tensor:
        """Take in one round; the scores of dropped participants are ignored.

        Args:
            scores: Scores of those who took part, (K,).
            participants: Their indices, K of them; all by default. The others keep their reputation, an equal part
                until they take part for the first time.

        Returns:
            Reputations, (N,), float64, summing to 1; 0 for whoever is out.
        """
        present = list(range(len(self.values)) if participants is None else participants)
        if scores.shape != (len(present),) or not scores.isfinite().all():
            raise InputError(f"scores of shape {tuple(scores.shape)} for {len(present)} participants, or not finite.")
        fresh = self._scaled(scores.double().cpu(), self.remaining[present])
        smoothed = self.decay * self.values[present] + (1 - self.decay) * fresh
        if self.rounds:
            values = self.values.clone()
            values[present] = smoothed
            values = self._raised(values)
        else:
            # Everybody has an equal part. Those who take part divide theirs anew; those who are absent keep theirs.
            values = torch.full_like(self.values, 1 / len(self.values))
            first = self._raised(smoothed)
            if first.sum() > 0:
                values[present] = first / first.sum() * len(present) / len(values)
        self.values = self._normalised(values)
        self.seen[present] = True
        self.rounds += 1
        if self.rounds > self.warm_up:
            kept = self.remaining & (~self.seen | (self.values >= self.threshold / self.remaining.sum()))
            # The best is at least average; only where all are worth nothing would everybody leave.
            self.remaining = kept if kept.any() else self.remaining
            self.values = self._normalised(self.values)
        return self.values.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "rounds": self.rounds,
            "values": self.values.tolist(),
            "remaining": self.remaining.tolist(),
            "seen": self.seen.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self.rounds = int(state["rounds"])
        self.values = torch.tensor(state["values"], dtype=torch.float64)
        self.remaining = torch.tensor(state["remaining"], dtype=torch.bool)
        self.seen = torch.tensor(state["seen"], dtype=torch.bool)

    @abstractmethod
    def _scaled(self, scores: Tensor, remaining: Tensor) -> Tensor:
        """Return what a round's scores count, (K,), of those who took part, some of whom may be out."""

    @abstractmethod
    def _raised(self, values: Tensor) -> Tensor:
        """Return what smoothed values count before they are made to sum to 1."""

    def _normalised(self, values: Tensor) -> Tensor:
        left = torch.where(self.remaining, values, 0.0)
        # Values may be negative, and their sum may then be no scale.
        return left / left.sum() if left.sum() > 0 else self.remaining.double() / self.remaining.sum()


class RFFLReputation(Reputation):
    """The reputation of RFFL: a moving average of cosines, with which the lowest drop out after ten rounds.

    It may be negative: the update of such a participant is subtracted from the aggregate until it drops out. Source: Xu
    and Lyu, "A Reputation Mechanism Is All You Need", 2021, and the authors' code.

    Args:
        participants: Their number.
        decay: Share of the old reputation that is kept, in [0, 1).
        threshold: See :class:`Reputation`.
        warm_up: Rounds in which nobody is dropped.

    Example:
        >>> reputation = RFFLReputation(3, decay=0.5, threshold=0.5, warm_up=0)
        >>> reputation.update(torch.tensor([0.75, 0.25, 0.0])).tolist(), reputation.remaining.tolist()
        ([0.75, 0.25, 0.0], [True, True, False])
    """

    def __init__(self, participants: int, *, decay: float = 0.95, threshold: float = 1 / 3, warm_up: int = 10) -> None:
        super().__init__(participants, decay=decay, threshold=threshold, warm_up=warm_up)

    def _scaled(self, scores: Tensor, remaining: Tensor) -> Tensor:
        return scores

    def _raised(self, values: Tensor) -> Tensor:
        return values


class CFFLReputation(Reputation):
    """The reputation of CFFL: a moving average of shares of accuracy, raised by a hyperbolic sine.

    ``r <- decay r + (1 - decay) a_i / sum a`` over those who are still in, then ``sinh(steepness r)``, scaled to sum 1.
    Over the run the steepness doubles. Source: Lyu et al., "Collaborative Fairness in Federated Learning", 2020, and
    the authors' code.

    Args:
        participants: Their number.
        run_rounds: Rounds of the run, >= 1.
        decay: Share of the old reputation that is kept, in [0, 1).
        threshold: See :class:`Reputation`.
        steepness: How much the better ones are favoured in the first round, above 0.

    Example:
        >>> reputation = CFFLReputation(2, 10)
        >>> [round(value, 4) for value in reputation.update(torch.tensor([0.75, 0.25])).tolist()]
        [0.765, 0.235]
    """

    def __init__(
        self,
        participants: int,
        run_rounds: int,
        *,
        decay: float = 0.8,
        threshold: float = 1 / 3,
        steepness: float = 5.0,
    ) -> None:
        super().__init__(participants, decay=decay, threshold=threshold, warm_up=0)
        if not (steepness > 0 and run_rounds > 0):
            raise InputError(f"steepness={steepness} and run_rounds={run_rounds} must be above 0.")
        self.steepness, self.run_rounds = steepness, run_rounds

    def _scaled(self, scores: Tensor, remaining: Tensor) -> Tensor:
        if not (scores >= 0).all():
            raise InputError("accuracies must not be negative.")
        left = torch.where(remaining, scores, 0.0)
        # Where not everybody takes part, those who do share their part of the whole.
        part = remaining.sum() / self.remaining.sum()
        return part * (left / left.sum() if left.sum() > 0 else remaining.double() / remaining.sum().clamp(min=1))

    def _raised(self, values: Tensor) -> Tensor:
        return (self.steepness * (1 + self.rounds / self.run_rounds) * values).sinh()


CFFL = Measure(
    "cffl",
    "reputation by the accuracy of each one’s own model (CFFL)",
    ("clipped_accuracies",),
    unchanged,
    CFFLReputation,
    counts_rounds=True,
)
RFFL = Measure(
    "rffl",
    "reputation by the direction of the updates (RFFL)",
    ("earlier", "weights", "squared_lengths", "comparison", "update_length"),
    cosines_with_shortened_updates,
    RFFLReputation,
)
