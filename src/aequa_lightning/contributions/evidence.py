"""Evidence over the rounds: who keeps sending nothing new, and whose updates do harm."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.contributions.novelty import LEAST_NOVELTY

# Medians over fewer participants say nothing of any one of them.
FEWEST = 4
# Share of the older rounds' novelty that counts on: whoever stops training is found within a few rounds.
KEPT = 0.8
# From a median absolute deviation to the standard deviation of a normal distribution.
TO_DEVIATION = 1.4826


class Evidence:
    """Compares each participant with the median of all, in the rounds that it took part in.

    A participant *rides* when the logarithm of its novelty, averaged over its rounds, is closer to that of noise, which
    is 0, than to the median participant's. Recent rounds count more.

    A participant *harms* when its updates, in all its rounds together, do worse on the classes that it says it has than
    their opposites would, by more than half of what the median participant's do better, and by more than three
    deviations of the participants around their median.

    Args:
        participants: Their number.

    Example:
        >>> evidence = Evidence(5)
        >>> evidence.add(
        ...     torch.tensor([90.0, 80.0, 1.2, 70.0, 85.0]), torch.tensor([0.9, 1.0, 0.0, -1.0, 0.8]), range(5)
        ... )
        >>> evidence.riders(range(5)), evidence.harmful(range(5))
        ([2], [3])
    """

    def __init__(self, participants: int) -> None:
        # Columns: own and median log novelty; own and median effect, and the variance of the effects.
        self._sums = torch.zeros(participants, 5, dtype=torch.float64)

    def add(self, novelties: Tensor, effects: Tensor, participants: Sequence[int]) -> None:
        """Take in one round; with fewer than four participants it says nothing.

        Args:
            novelties: As ``novelty`` returns them, (K,).
            effects: How much less the validation loss is after the update than after its opposite, (K,).
            participants: Who took part, K of them.
        """
        if len(participants) < FEWEST:
            return
        logarithms = novelties.double().clamp(min=LEAST_NOVELTY).log()
        effects = effects.double()
        middle = effects.median()
        deviation = TO_DEVIATION * (effects - middle).abs().median()
        present = list(participants)
        sums = self._sums[present]
        sums[:, :2] *= KEPT
        constant = torch.stack([middle, deviation**2]).expand(len(present), -1)
        self._sums[present] = sums + torch.column_stack(
            [logarithms, logarithms.median().expand(len(present)), effects, constant]
        )

    def riders(self, participants: Sequence[int]) -> list[int]:
        """Return who of some participants rides."""
        return [index for index in participants if self._rides(*self._sums[index, :2].tolist())]

    def harmful(self, participants: Sequence[int]) -> list[int]:
        """Return who of some participants does harm."""
        return [index for index in participants if self._harms(*self._sums[index, 2:].tolist())]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        return {"sums": self._sums.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._sums = torch.tensor(state["sums"], dtype=torch.float64)

    @staticmethod
    def _rides(own: float, median: float) -> bool:
        return median > 0 and own < median / 2

    @staticmethod
    def _harms(own: float, median: float, variance: float) -> bool:
        return median > 0 and own < -median / 2 and own < median - 3 * math.sqrt(variance)
