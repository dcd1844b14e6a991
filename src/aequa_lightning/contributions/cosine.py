"""Contribution by direction: the cosine of a participant's update with the aggregate (CGSV).

Source: Xu et al., "Gradient Driven Rewards to Guarantee Fairness in Collaborative Machine Learning", NeurIPS 2021. Two
weaknesses come with every measure of this kind: a replay of the last aggregate scores highest (see ``gates``), and the
sole owner of a class scores low, for its updates point elsewhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.errors import InputError


def update_cosines(updates: Tensor, aggregate: Tensor) -> Tensor:
    """Return the cosine of each update with the aggregate; 0 for an update (or aggregate) that is all zero.

    Args:
        updates: One flat update a participant, (N, P).
        aggregate: What the server applied, (P,).

    Returns:
        Cosines in -1..1, (N,), float64.

    Raises:
        InputError: When the shapes do not fit or a number is not finite.

    Example:
        >>> update_cosines(torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]]), torch.tensor([3.0, 0.0])).tolist()
        [1.0, -1.0, 0.0]
    """
    if updates.ndim != 2 or aggregate.shape != updates.shape[1:]:
        raise InputError(
            f"updates of shape {tuple(updates.shape)} and an aggregate of shape {tuple(aggregate.shape)} do not fit; "
            "they are (N, P) and (P,)."
        )
    updates, aggregate = updates.double(), aggregate.double()
    return _cosines(updates @ aggregate, updates.square().sum(dim=1), aggregate.square().sum())


def cosines_from_gram(gram: Tensor, weights: Tensor) -> Tensor:
    """Return the cosine of each update with the weighted sum of all, from their inner products alone.

    With G the Gram matrix and w the weights, the product of update i with the aggregate is (G w)_i and the aggregate's
    squared norm is w' G w: no process needs to hold every update.

    Args:
        gram: Inner products of all pairs of updates, (N, N).
        weights: Weight of each update in the aggregate, (N,).

    Returns:
        Cosines in -1..1, (N,), float64.

    Raises:
        InputError: When the shapes do not fit or a number is not finite.

    Example:
        >>> updates = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
        >>> weights = torch.tensor([0.25, 0.75])
        >>> cosines = cosines_from_gram(updates @ updates.T, weights)
        >>> torch.allclose(cosines, update_cosines(updates, weights @ updates))
        True
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or weights.shape != gram.shape[:1]:
        raise InputError(
            f"a Gram matrix of shape {tuple(gram.shape)} and weights of shape {tuple(weights.shape)} do not fit; "
            "they are (N, N) and (N,)."
        )
    gram, weights = gram.double(), weights.double()
    products = gram @ weights
    return _cosines(products, gram.diagonal(), (weights @ products).clamp(min=0))


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
        """Take up a state that ``state_dict`` returned."""
        self.decay, self.smallest = float(state["decay"]), float(state["smallest"])
        self.values = torch.tensor(state["values"], dtype=torch.float64)


def _cosines(products: Tensor, squared_norms: Tensor, squared_norm: Tensor) -> Tensor:
    cosines = products / (squared_norms.sqrt() * squared_norm.sqrt())
    null = (squared_norms == 0) | (squared_norm == 0)
    if not cosines[~null].isfinite().all():
        raise InputError("an update is not finite; drop it first (see aequa_lightning.contributions.gates).")
    return torch.where(null, 0.0, cosines).clamp(-1, 1)
