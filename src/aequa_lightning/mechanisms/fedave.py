"""FedAVE: masks by accuracy and by how unusual one's classes are."""

from dataclasses import dataclass

from aequa_lightning.mechanisms.mechanism import Measure, PaidInRounds
from aequa_lightning.mechanisms.payment import Masking, Payment
from aequa_lightning.mechanisms.targets import Tanh, Target


@dataclass(frozen=True)
class FedAVE(PaidInRounds):
    """Adaptive data value evaluation (Wang et al., "FedAVE", 2024), as peers describe it.

    The score is the validation accuracy times the squared divergence of one's classes from those of all; the share is
    ``tanh(beta score)`` over its largest value. The source scales shares once more by the divergence; where all classes
    are alike every score is 0 here, and all receive the same.

    Args:
        contribution: The measure that takes the place of the accuracy.
        beta: Altruism, > 0.
    """

    contribution: Measure = "standalone"
    beta: float = 1.0

    def __post_init__(self) -> None:
        self.parts()

    def parts(self) -> tuple[Target, Payment]:
        """Return squashed ratios of scores, and masks of the mean update."""
        return Tanh(self.beta, imbalance=True), Masking()
