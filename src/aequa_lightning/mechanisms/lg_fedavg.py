"""LG-FedAvg: local representations, shared last layers."""

from dataclasses import dataclass

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.mechanism import PaidInRounds
from aequa_lightning.mechanisms.payment import LastLayers, Payment
from aequa_lightning.mechanisms.targets import Everything, Target


@dataclass(frozen=True)
class LGFedAvg(PaidInRounds):
    """Only the layers next to the output are averaged (Liang et al., "Think Locally, Act Globally", 2020).

    The source also evaluates ensembles for new participants, which are no reward and are left out.

    Args:
        layers: Layers with parameters that are shared, counted from the output, >= 1; 3 are the three fully connected
            layers of the paper's CNN.

    Raises:
        InputError: The number is out of range.
    """

    layers: int = 3

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise InputError(f"trainer.mechanism.layers={self.layers} must be at least 1; 0 would be Standalone.")

    def parts(self) -> tuple[Target, Payment]:
        """Return the same share for all: the last layers."""
        return Everything(), LastLayers(self.layers)
