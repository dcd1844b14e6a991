"""FedSAC: sub-models of the most important neurons, sized by contribution."""

from dataclasses import dataclass

from aequa_lightning.mechanisms.mechanism import Measure, PaidInRounds
from aequa_lightning.mechanisms.payment import Neurons, Payment
from aequa_lightning.mechanisms.targets import Relative, Target


@dataclass(frozen=True)
class FedSAC(PaidInRounds):
    """Dynamic sub-model allocation (Wang et al., "FedSAC", KDD 2024), as far as its abstract tells.

    Participant i receives a share of every layer's neurons, the most important ones, and keeps its own of the others.
    Importance is the length of a neuron's weights here; the averaging of rarely held neurons is not reproduced.

    Args:
        contribution: The measure that is paid for.
    """

    contribution: Measure = "standalone"

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, and important neurons."""
        return Relative(), Neurons()
