"""Rank: everybody learns from those who contribute no more than itself."""

from dataclasses import dataclass

from aequa_lightning.mechanisms.mechanism import Measure, PaidInRounds
from aequa_lightning.mechanisms.payment import Payment, Ranked
from aequa_lightning.mechanisms.targets import Relative, Target


@dataclass(frozen=True)
class Rank(PaidInRounds):
    """The mean update of all participants ranked at or below oneself: a baseline of IAFL (Wu et al., ICML 2024).

    Args:
        contribution: The measure that ranks; equal contributions learn from each other.
    """

    contribution: Measure = "standalone"

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, which the means does not need, and the mean by rank."""
        return Relative(), Ranked()
