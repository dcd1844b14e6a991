"""How participants are paid: a contribution measure, a target, and a means of payment."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

from aequa_lightning.rewards.allocation import Allocation
from aequa_lightning.rewards.frontier import Frontier, pareto_front
from aequa_lightning.rewards.uncertainty import Resampled

Measure = Literal["standalone", "data_share", "cosine", "class_cosine", "alignment", "fedsv", "banzhaf"]
"""What may be paid for: a column of ``contributions.csv``."""

ALWAYS_MEASURED = ("standalone", "data_share")
"""Measures that need no round."""


class Mechanism(ABC):
    """Base of the mechanisms that pay with a width of the shared model.

    Attributes:
        contribution: The measure that decides.
        resolution: Largest step in accuracy that the curve may keep between neighbouring widths, in [0, 1].
    """

    contribution: Measure = "standalone"
    resolution: float = 0.005

    def hold(
        self, contributions: Sequence[float], accuracy_by_width: Mapping[float, float], *, smallest: float
    ) -> list[float] | None:
        """Choose what every participant holds in the next round; None: everybody the full width, in all rounds.

        Args:
            contributions: By the mechanism's measure, as known so far, (N,).
            accuracy_by_width: Validation accuracy in [0, 1] of every width of the grid; empty before the first round.
            smallest: Smallest width, in (0, 1].
        """
        return None

    @abstractmethod
    def allocate(
        self,
        contributions: Sequence[float],
        accuracy_by_width: dict[float, float],
        *,
        standalone: Sequence[float],
        held: Sequence[float],
    ) -> Allocation:
        """Choose the width that every participant receives in the end.

        Args:
            contributions: By the mechanism's measure, (N,).
            accuracy_by_width: Validation accuracy in [0, 1] of every measured width.
            standalone: Validation accuracy in [0, 1] that each participant reaches alone, (N,).
            held: Width that each participant held in the last round, (N,).
        """

    def frontier(self, standalone: Sequence[float], accuracy_by_width: Mapping[float, float]) -> Frontier:
        """Return what could have been chosen: mean gain against spread, over what everybody reaches alone.

        Args:
            standalone: Validation accuracy in [0, 1] that each participant reaches alone, (N,).
            accuracy_by_width: Validation accuracy in [0, 1] of every measured width.
        """
        return pareto_front(standalone, accuracy_by_width)

    def resample(
        self, contributions: Sequence[float], correct: Sequence[Sequence[bool]], widths: Sequence[float], *, seed: int
    ) -> Resampled | None:
        """Choose again for resampled validation parts; None where that says nothing.

        Args:
            contributions: By the mechanism's measure, (N,).
            correct: Whether each width gets each validation sample right, (M, S).
            widths: The offered widths, (M,).
            seed: Source of all randomness.
        """
        return None
