"""Contribution by direction: the cosine of a participant's update with an aggregate (CGSV).

Source: Xu et al., "Gradient Driven Rewards to Guarantee Fairness in Collaborative Machine Learning", NeurIPS 2021. Two
weaknesses come with every measure of this kind: a replay of the last aggregate scores highest (see ``gates``), and the
sole owner of a class scores low, for its updates point elsewhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.contributions.measure import Comparison, Measure
from aequa_lightning.errors import InputError

# Lengths below this are those of updates without direction.
NO_LENGTH = 1e-12


def cosines(products: Tensor, squares: Tensor, others: Tensor) -> Tensor:
    """Return the cosines of pairs of vectors from their inner products; 0 where a length is 0.

    Args:
        products: Inner products, of any shape.
        squares: Squared lengths on one side, of a shape that fits.
        others: Squared lengths on the other side, of a shape that fits.

    Returns:
        Cosines in -1..1, of the same shape.

    Example:
        >>> cosines(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0]), torch.tensor([9.0, 9.0])).tolist()
        [1.0, 0.0]
    """
    lengths = (squares * others).sqrt()
    return torch.where(lengths > 0, products / lengths, 0.0).clamp(-1, 1)


def shortening(lengths: Tensor, limit: float) -> Tensor:
    """Return the factors that shorten vectors to a limit if they are longer, in (0, 1].

    Args:
        lengths: Of the vectors, (N,), >= 0.
        limit: > 0.

    Example:
        >>> shortening(torch.tensor([0.25, 2.0]), 0.5).tolist()
        [1.0, 0.25]
    """
    return (limit / lengths.clamp(min=NO_LENGTH)).clamp(max=1)


def earlier_weights(earlier: Tensor, weights: Tensor) -> Tensor:
    """Return earlier values as weights that sum to 1; other weights where their sum is not positive.

    Args:
        earlier: Values before the round, (G,).
        weights: Weights that count in the first round, (G,), not negative, not all 0.

    Example:
        >>> earlier_weights(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])).tolist()
        [0.75, 0.25]
        >>> earlier_weights(torch.zeros(2), torch.tensor([1.0, 1.0])).tolist()
        [0.5, 0.5]
    """
    chosen = earlier if earlier.sum() > 0 else weights
    return chosen / chosen.sum()


def cosines_with_unit_updates(
    earlier: Tensor, weights: Tensor, squared_lengths: Tensor, comparison: Comparison
) -> Tensor:
    """Return the cosine of each update with the mean of all at length 1, weighted by earlier reputations (CGSV).

    Args:
        earlier: Reputations before the round, (G,).
        weights: Weights of the average, which take their place in the first round, (G,).
        squared_lengths: Of the updates, (G,).
        comparison: Compares updates with a weighted mean.

    Returns:
        (G,), float64.
    """
    lengths = squared_lengths.sqrt()
    scales = torch.where(lengths > NO_LENGTH, 1 / lengths, 0.0)
    return _cosines_with_mean(earlier, weights, squared_lengths, comparison, scales=scales)


def cosines_with_shortened_updates(
    earlier: Tensor, weights: Tensor, squared_lengths: Tensor, comparison: Comparison, update_length: float
) -> Tensor:
    """Return the cosine of each update with a mean in which longer ones are shortened to a length (RFFL).

    Args:
        earlier: As for :func:`cosines_with_unit_updates`.
        weights: Likewise.
        squared_lengths: Likewise.
        comparison: Likewise.
        update_length: The length, > 0.

    Returns:
        (G,), float64.
    """
    scales = shortening(squared_lengths.sqrt(), update_length)
    return _cosines_with_mean(earlier, weights, squared_lengths, comparison, scales=scales)


def _cosines_with_mean(
    earlier: Tensor, weights: Tensor, squared_lengths: Tensor, comparison: Comparison, *, scales: Tensor
) -> Tensor:
    """Return the cosine of each update with the mean of the scaled updates by reputation, (G,)."""
    products, squares = comparison(earlier_weights(earlier, weights), scales)
    return cosines(products, squared_lengths, squares)


class CosineReputation:
    """Reputations that follow scores over the rounds: r <- decay r + (1 - decay) phi, clamped, summing to 1.

    CGSV feeds it cosines, FedAVE accuracies times likeness.

    Args:
        participants: Their number, at least 1.
        decay: Share of the old reputation that is kept each round, in [0, 1).
        smallest: A reputation never falls below this before normalisation, so that it can recover.
        from_first: Whether the first round's score counts in full, as in FedAVE; else it is smoothed with 0, too.

    Example:
        >>> reputation = CosineReputation(2, decay=0.5)
        >>> [round(share, 6) for share in reputation.update(torch.tensor([0.9, 0.3])).tolist()]
        [0.75, 0.25]
    """

    def __init__(
        self, participants: int, *, decay: float = 0.95, smallest: float = 1e-3, from_first: bool = False
    ) -> None:
        if participants < 1 or not 0 <= decay < 1 or not smallest > 0:
            raise InputError(
                f"participants={participants}, decay={decay}, smallest={smallest}: need at least one participant, "
                "a decay in [0, 1) and a smallest reputation above 0."
            )
        self.decay = decay
        self.smallest = smallest
        self.from_first = from_first
        self.values = torch.zeros(participants, dtype=torch.float64)

    def update(self, scores: Tensor, participants: Sequence[int] | None = None) -> Tensor:
        """Take in one round.

        Args:
            scores: Scores of those who took part, (K,).
            participants: Their indices, K of them; all by default. The others keep their standing.

        Returns:
            Reputations after the round, (N,), float64, positive, summing to 1.
        """
        present = list(range(len(self.values)) if participants is None else participants)
        if scores.shape != (len(present),) or not scores.isfinite().all():
            raise InputError(f"scores of shape {tuple(scores.shape)} for {len(present)} participants, or not finite.")
        decay = 0.0 if self.from_first and not self.values.any() else self.decay
        self.values[present] = decay * self.values[present] + (1 - decay) * scores.double().cpu()
        self.values.clamp_(min=self.smallest)
        self.values /= self.values.sum()
        return self.values.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        return {"decay": self.decay, "smallest": self.smallest, "values": self.values.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self.decay, self.smallest = float(state["decay"]), float(state["smallest"])
        self.values = torch.tensor(state["values"], dtype=torch.float64)


COSINE = Measure(
    "cosine",
    "how far each update points where the mean by reputation does (CGSV)",
    ("earlier", "weights", "squared_lengths", "comparison"),
    cosines_with_unit_updates,
    CosineReputation,
)
