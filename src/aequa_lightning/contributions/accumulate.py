"""From rounds to a run: two ways to carry scores along."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.errors import InputError


class MovingAverage:
    """An exponential moving average of scores, m <- decay m + (1 - decay) score, that starts at the first score.

    Args:
        participants: Their number.
        decay: Share of the old value that is kept, in [0, 1); 0: the last score alone counts.

    Example:
        >>> average = MovingAverage(2, decay=0.5)
        >>> average.update(torch.tensor([1.0, 0.0])).tolist(), average.update(torch.tensor([0.0, 1.0])).tolist()
        ([1.0, 0.0], [0.5, 0.5])
    """

    def __init__(self, participants: int, *, decay: float = 0.9) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"decay is {decay}, but must lie in [0, 1).")
        self.decay = decay
        self.values = torch.full((participants,), torch.nan, dtype=torch.float64)

    def update(self, scores: Tensor, participants: Sequence[int] | None = None) -> Tensor:
        """Take in one round: the scores of those who took part, (K,); all by default. Others keep theirs.

        Returns:
            Averages, (N,), float64; NaN for whoever has not taken part yet.
        """
        present = _present(self.values, scores, participants)
        old, new = self.values[present], scores.double().cpu()
        self.values[present] = torch.where(old.isnan(), new, self.decay * old + (1 - self.decay) * new)
        return self.values.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers; None stands for no score yet."""
        return {"decay": self.decay, "values": [None if value != value else value for value in self.values.tolist()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state that ``state_dict`` returned."""
        self.decay = float(state["decay"])
        values = [torch.nan if value is None else value for value in state["values"]]
        self.values = torch.tensor(values, dtype=torch.float64)


class RunningSum:
    """A sum of scores over the rounds; whoever is absent earns nothing. What federated Shapley values and DIG-FL need.

    Args:
        participants: Their number.

    Example:
        >>> total = RunningSum(2)
        >>> total.update(torch.tensor([1.0, 2.0])).tolist(), total.update(torch.tensor([0.5]), [1]).tolist()
        ([1.0, 2.0], [1.0, 2.5])
    """

    def __init__(self, participants: int) -> None:
        self.values = torch.zeros(participants, dtype=torch.float64)

    def update(self, scores: Tensor, participants: Sequence[int] | None = None) -> Tensor:
        """Take in one round: the scores of those who took part, (K,); all by default."""
        self.values[_present(self.values, scores, participants)] += scores.double().cpu()
        return self.values.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        return {"values": self.values.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state that ``state_dict`` returned."""
        self.values = torch.tensor(state["values"], dtype=torch.float64)


def _present(values: Tensor, scores: Tensor, participants: Sequence[int] | None) -> list[int]:
    present = list(range(len(values)) if participants is None else participants)
    if scores.shape != (len(present),) or not scores.isfinite().all():
        raise InputError(f"scores of shape {tuple(scores.shape)} for {len(present)} participants, or not finite.")
    return present
