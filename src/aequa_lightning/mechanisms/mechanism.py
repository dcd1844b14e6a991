"""How participants are paid: a contribution measure, a target, and a means of payment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.allocation import Allocation, allocate_widths


@dataclass(frozen=True)
class Mechanism:
    """Base of all mechanisms that pay with a width of the shared model.

    Args:
        contribution: The measure that decides: ``standalone`` (accuracy alone, on the validation part) or ``cosine``
            (alignment of the updates with their aggregate).
        objective: What the allocation minimises; see :func:`~aequa_lightning.rewards.allocation.allocate_widths`.
        slope: Accuracy that one more unit of contribution deserves, or ``auto`` for the largest up to 1 that fits.
        individually_rational: Whether nobody may receive less than it reaches alone, where the widths allow it.
        pin_top: Whether the top contributor receives the full width.
        resolution: The accuracy curve is refined until neighbouring widths differ by no more, in [0, 1].
    """

    contribution: Literal["standalone", "cosine"] = "standalone"
    objective: str = "cv"
    slope: float | Literal["auto"] = "auto"
    individually_rational: bool = True
    pin_top: bool = True
    resolution: float = 0.005

    def __post_init__(self) -> None:
        if not 0 <= self.resolution <= 1:
            raise InputError(f"trainer.mechanism.resolution={self.resolution} is outside [0, 1].")
        in_accuracy_units = self.contribution == "standalone"
        if not in_accuracy_units and self.objective in ("cv", "spread_minus_gain", "variance", "lexicographic"):
            raise InputError(
                f"trainer.mechanism.objective={self.objective!r} compares contributions with accuracies, but "
                f"contribution={self.contribution!r} is no accuracy; choose objective 'proportional' or 'pearson'."
            )

    def allocate(
        self,
        contributions: Sequence[float] | NDArray[np.float64],
        accuracy_by_width: dict[float, float],
        *,
        standalone: Sequence[float],
    ) -> Allocation:
        """Choose a width for every participant.

        Args:
            contributions: Shape (N,), by the mechanism's measure.
            accuracy_by_width: Validation accuracy in [0, 1] of every measured width.
            standalone: Validation accuracy in [0, 1] that each participant reaches alone.
        """
        return allocate_widths(
            contributions,
            accuracy_by_width,
            self.objective,
            slope=self.slope,
            floors=standalone if self.individually_rational else None,
            pin_top=self.pin_top,
        )


@dataclass(frozen=True)
class Aequa(Mechanism):
    """Fair model rewards after training (Tastan et al., ICML 2025, section 4.2): widths that equalise the gains."""


@dataclass(frozen=True)
class FedAvgModel(Mechanism):
    """The usual federated reward: the same full model for all. The yardstick of what fairness costs."""

    objective: str = "full"
