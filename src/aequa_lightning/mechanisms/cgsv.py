"""CGSV: the largest entries of the aggregate, as many as the direction of one's updates deserves."""

from dataclasses import dataclass

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.mechanism import Measure, PaidInRounds
from aequa_lightning.mechanisms.payment import Masking, Payment
from aequa_lightning.mechanisms.targets import Tanh, Target


@dataclass(frozen=True)
class CGSV(PaidInRounds):
    """Gradient rewards by cosine gradient Shapley value (Xu et al., NeurIPS 2021).

    Updates are scaled to one length and averaged by reputation; participant i moves by the largest entries of the
    average in each layer, a share ``tanh(beta r_i) / max tanh(beta r)`` of them. Reputations r are moving averages of
    cosines (the measure ``cosine``, weight .95 on the past). In the source the download of a round enters the next
    one's training the same way; here gates may stand before the cosine.

    Args:
        beta: Altruism, > 0.
        length: Length that every update is scaled to, > 0; the source takes .5 (MNIST), .15 (CIFAR-10), 1 (SST).

    Raises:
        InputError: A value is out of range.
    """

    contribution: Measure = "cosine"
    beta: float = 1.0
    length: float = 0.5

    def __post_init__(self) -> None:
        if not (self.beta > 0 and self.length > 0):
            raise InputError(f"trainer.mechanism: beta={self.beta} and length={self.length} must be above 0.")

    def parts(self) -> tuple[Target, Payment]:
        """Return squashed ratios of reputations, and masks of the aggregate."""
        return Tanh(self.beta), Masking(self.length)
