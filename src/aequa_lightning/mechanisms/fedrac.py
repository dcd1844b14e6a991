"""FedRAC: rolling sub-models, sized by contribution."""

from dataclasses import dataclass

from aequa_lightning.mechanisms.mechanism import Measure, PaidInRounds
from aequa_lightning.mechanisms.payment import Neurons, Payment
from aequa_lightning.mechanisms.targets import Relative, Target


@dataclass(frozen=True)
class FedRAC(PaidInRounds):
    """Rolling sub-model allocation ("FedRAC", CVPR 2026), as far as its abstract tells.

    Participant i receives a share of every layer's neurons: a window that moves on by one neuron in each round, so that
    every neuron is trained and received in turn. The source's rules for sizes and frequencies are not reproduced.

    Args:
        contribution: The measure that is paid for.
    """

    contribution: Measure = "standalone"

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, and windows of neurons."""
        return Relative(), Neurons(rolling=True)
