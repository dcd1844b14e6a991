"""CFFL: masks by validation accuracy."""

from dataclasses import dataclass

from aequa_lightning.mechanisms.mechanism import Measure, PaidInRounds
from aequa_lightning.mechanisms.payment import Masking, Payment
from aequa_lightning.mechanisms.targets import Surviving, Target


@dataclass(frozen=True)
class CFFL(PaidInRounds):
    """Collaborative fairness (Lyu et al., "Collaborative Fairness in Federated Learning", 2020).

    Each downloads a share of the aggregated update, the largest entries first, in proportion to its reputation; who has
    less than two thirds of an equal share receives nothing. The source takes the accuracy of the uploaded updates on
    the server's data as the score, raised by a hyperbolic sine and smoothed, which is the measure ``cffl``; by default
    it is here the accuracy alone on the same data, which does not change from round to round.

    Args:
        contribution: The measure that is paid for.
        threshold: Part of an equal share below which one receives nothing, in [0, 1).
    """

    contribution: Measure = "standalone"
    threshold: float = 2 / 3

    def __post_init__(self) -> None:
        self.parts()

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios of those who stay, and masks of the mean update."""
        return Surviving(self.threshold, after=0), Masking()
