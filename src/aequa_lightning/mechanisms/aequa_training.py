"""Aequa with rewards in every round: nobody ever holds more than it has earned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.mechanism import Measure, PaidByHeldWidth
from aequa_lightning.rewards.curve import offered_widths


@dataclass(frozen=True)
class AequaTraining(PaidByHeldWidth):
    """Training-time rewards (Tastan et al., ICML 2025, Algorithm 2).

    Every round a participant receives, trains and returns only the sub-network of its width; each weight is averaged
    over those who hold it. The paper does not publish the map from contribution to width. Here the first round gives
    widths in proportion to contributions; from then on everybody's width is the one whose accuracy, on the curve just
    measured, lies nearest to ``a(1) - slope * (c_max - c_i)``: the top contributor holds the full width, the others as
    much less as they contribute less. What a participant held in the last round is its reward.

    Args:
        contribution: The measure that is paid for, as it stands before each round.
        slope: Accuracy that one more unit of contribution deserves, >= 0; ``standalone`` counts in accuracies, other
            measures in units of their own.
        resolution: The curve in the report is refined until neighbouring widths differ by no more, in [0, 1].

    Raises:
        InputError: A value is out of range.
    """

    contribution: Measure = "standalone"
    slope: float = 1.0
    resolution: float = 0.005

    def __post_init__(self) -> None:
        if not 0 <= self.resolution <= 1:
            raise InputError(f"trainer.mechanism.resolution={self.resolution} is outside [0, 1].")
        if not self.slope >= 0:
            raise InputError(f"trainer.mechanism.slope={self.slope} must be at least 0.")

    def hold(
        self, contributions: Sequence[float], accuracy_by_width: Mapping[float, float], *, smallest: float
    ) -> list[float]:
        """Choose the widths of the next round; before the first one the curve is empty."""
        if not accuracy_by_width:
            return proportional_widths(contributions, smallest=smallest)
        return anchored_widths(contributions, accuracy_by_width, slope=self.slope)


def proportional_widths(contributions: Sequence[float], *, smallest: float) -> list[float]:
    """Return widths in proportion to contributions, the top contributor's being full.

    Args:
        contributions: At least one positive, (N,).
        smallest: Smallest width, in (0, 1]; nobody receives less.

    Example:
        >>> proportional_widths([0.4, 0.8, 0.0], smallest=0.25)
        [0.5, 1.0, 0.25]
    """
    top = max(contributions)
    return [max(smallest, contribution / top) if top > 0 else 1.0 for contribution in contributions]


def anchored_widths(
    contributions: Sequence[float], accuracy_by_width: Mapping[float, float], *, slope: float
) -> list[float]:
    """Return for each participant the offered width nearest to ``a(1) - slope * (c_max - c_i)``.

    Args:
        contributions: In accuracy units, (N,).
        accuracy_by_width: Accuracy in [0, 1] of each measured width; :func:`offered_widths` says which are handed out.
        slope: Accuracy that one more unit of contribution deserves, >= 0.

    Returns:
        Widths, (N,); of two equally near ones the narrower.

    Example:
        >>> anchored_widths([0.5, 0.7, 0.8], {0.25: 0.6, 0.5: 0.82, 1.0: 0.9}, slope=1.0)
        [0.25, 0.5, 1.0]
    """
    curve = offered_widths(accuracy_by_width)
    targets = curve.accuracies[-1] - slope * (max(contributions) - np.asarray(contributions, dtype=np.float64))
    nearest = np.abs(curve.accuracies[None] - targets[:, None]).argmin(axis=1)
    return [float(width) for width in curve.widths[nearest]]
