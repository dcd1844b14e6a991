"""How participants are paid: a contribution measure, a target, and a means of payment."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from aequa_lightning.rewards.allocation import Allocation


class Mechanism(ABC):
    """Base of the mechanisms that pay with a width of the shared model.

    Attributes:
        contribution: The measure that decides, a column of ``contributions.csv``.
        resolution: Largest step in accuracy that the curve may keep between neighbouring widths, in [0, 1].
    """

    contribution: str = "standalone"
    resolution: float = 0.005

    @abstractmethod
    def allocate(
        self, contributions: Sequence[float], accuracy_by_width: dict[float, float], *, standalone: Sequence[float]
    ) -> Allocation:
        """Choose a width for every participant.

        Args:
            contributions: By the mechanism's measure, (N,).
            accuracy_by_width: Validation accuracy in [0, 1] of every measured width.
            standalone: Validation accuracy in [0, 1] that each participant reaches alone, (N,).
        """
