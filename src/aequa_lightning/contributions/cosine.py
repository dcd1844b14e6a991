"""Contribution by direction: the cosine of a participant's update with the aggregate (CGSV).

Source: Xu et al., "Gradient Driven Rewards to Guarantee Fairness in Collaborative Machine Learning", NeurIPS 2021. Two
weaknesses come with every measure of this kind: a replay of the last aggregate scores highest (see ``gates``), and the
sole owner of a class scores low, for its updates point elsewhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.contributions.measure import Measure
from aequa_lightning.errors import InputError


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


class CosineReputation:
    """Reputations that follow the cosines over the rounds: r <- decay r + (1 - decay) phi, clamped, summing to 1.

    Args:
        participants: Their number, at least 1.
        decay: Share of the old reputation that is kept each round, in [0, 1).
        smallest: A reputation never falls below this before normalisation, so that it can recover.

    Example:
        >>> reputation = CosineReputation(2, decay=0.5)
        >>> [round(share, 6) for share in reputation.update(torch.tensor([0.9, 0.3])).tolist()]
        [0.75, 0.25]
    """

    def __init__(self, participants: int, *, decay: float = 0.95, smallest: float = 1e-3) -> None:
        if participants < 1 or not 0 <= decay < 1 or not smallest > 0:
            raise InputError(
                f"participants={participants}, decay={decay}, smallest={smallest}: need at least one participant, "
                "a decay in [0, 1) and a smallest reputation above 0."
            )
        self.decay = decay
        self.smallest = smallest
        self.values = torch.zeros(participants, dtype=torch.float64)

    def update(self, cosines: Tensor, participants: Sequence[int] | None = None) -> Tensor:
        """Take in one round.

        Args:
            cosines: Cosines of those who took part, (K,).
            participants: Their indices, K of them; all by default. The others keep their standing.

        Returns:
            Reputations after the round, (N,), float64, positive, summing to 1.
        """
        present = list(range(len(self.values)) if participants is None else participants)
        if cosines.shape != (len(present),) or not cosines.isfinite().all():
            raise InputError(f"cosines of shape {tuple(cosines.shape)} for {len(present)} participants, or not finite.")
        self.values[present] = self.decay * self.values[present] + (1 - self.decay) * cosines.double().cpu()
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
    "how far each update points where the average does (CGSV)",
    ("aggregate_products", "squared_lengths", "aggregate_squares"),
    cosines,
    CosineReputation,
)
