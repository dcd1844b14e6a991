"""Reputations of CFFL and RFFL, which drop participants with too small a share."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.contributions.cosine import cosines
from aequa_lightning.contributions.measure import Measure
from aequa_lightning.errors import InputError


def validation_reputation(accuracies: Tensor, *, steepness: float = 5.0) -> Tensor:
    """Return the CFFL reputation of one round, sinh(steepness a_i / sum a), scaled to sum 1.

    Source: Lyu et al., "Collaborative Fairness in Federated Learning", 2020.

    Args:
        accuracies: Validation accuracy of each participant's own model, (N,), not negative.
        steepness: How much the better ones are favoured, above 0.

    Example:
        >>> validation_reputation(torch.tensor([0.5, 0.5])).tolist()
        [0.5, 0.5]
    """
    if not (accuracies >= 0).all() or not steepness > 0:
        raise InputError(f"steepness={steepness} must be above 0, and accuracies must not be negative.")
    total = accuracies.double().sum()
    if total == 0:
        return torch.full(accuracies.shape, 1 / len(accuracies), dtype=torch.float64)
    raised = (steepness * accuracies.double() / total).sinh()
    return raised / raised.sum()


def round_reputation(accuracies: Tensor, valued: int, participants: int) -> Tensor:
    """Return :func:`validation_reputation` of a round, where those who are valued share their part of the whole.

    Args:
        accuracies: Validation accuracy of each player's own model, (G,).
        valued: Number of participants that are valued in the round.
        participants: Number of participants of the run.

    Example:
        >>> round_reputation(torch.tensor([0.5, 0.5]), 2, 4).tolist()
        [0.25, 0.25]
    """
    return validation_reputation(accuracies) * valued / participants


class Reputation:
    """A smoothed reputation that sums to 1 over those who are still in, and that drops whoever falls too low.

    CFFL feeds it ``validation_reputation`` with decay 0.5 and threshold 2/3 from the first round on; RFFL (Xu and
    Lyu, "A Reputation Mechanism Is All You Need", 2021) feeds it cosines with decay 0.95 and threshold 1/3 after ten
    rounds.

    Args:
        participants: Their number.
        decay: Share of the old reputation that is kept, in [0, 1).
        threshold: Whoever has less than this share of the equal part 1 / (number still in) is dropped for good.
        warm_up: Rounds in which nobody is dropped.

    Example:
        >>> reputation = Reputation(3, decay=0.5, threshold=0.5, warm_up=0)
        >>> reputation.update(torch.tensor([0.75, 0.25, 0.0])).tolist()
        [0.75, 0.25, 0.0]
        >>> reputation.remaining.tolist()
        [True, True, False]
    """

    def __init__(self, participants: int, *, decay: float, threshold: float, warm_up: int) -> None:
        if not (0 <= decay < 1 and 0 <= threshold < 1):
            raise InputError(f"decay={decay} and threshold={threshold} must lie in [0, 1).")
        self.decay, self.threshold, self.warm_up = decay, threshold, warm_up
        self.rounds = 0
        self.values = torch.full((participants,), 1 / participants, dtype=torch.float64)
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
        decay = torch.where(self.seen[present], self.decay, 0.0)
        values = self.values.clone()
        values[present] = decay * values[present] + (1 - decay) * scores.double().cpu()
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

    def _normalised(self, values: Tensor) -> Tensor:
        positive = torch.where(self.remaining, values, 0.0).clamp(min=0)
        if positive.sum() == 0:
            return self.remaining.double() / self.remaining.sum()
        return positive / positive.sum()


CFFL = Measure(
    "cffl",
    "reputation by the accuracy of each one’s own model (CFFL)",
    ("own_accuracies", "valued", "participants"),
    round_reputation,
    partial(Reputation, decay=0.5, threshold=2 / 3, warm_up=0),
)
RFFL = Measure(
    "rffl",
    "reputation by the direction of the updates (RFFL)",
    ("aggregate_products", "squared_lengths", "aggregate_squares"),
    cosines,
    partial(Reputation, decay=0.95, threshold=1 / 3, warm_up=10),
)
