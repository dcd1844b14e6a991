"""Federated averaging, adapted by each participant to its own data in the end."""

from dataclasses import dataclass

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.mechanism import PaidInRounds
from aequa_lightning.mechanisms.payment import Payment, ServerModel
from aequa_lightning.mechanisms.targets import Everything, Target


@dataclass(frozen=True)
class FineTuning(PaidInRounds):
    """FedAvg-FT: the average model, then some epochs of local training (McMahan et al. 2017; Yu et al. 2020).

    Args:
        epochs: Passes of each participant over its own data after the last round, >= 1.

    Raises:
        InputError: The number is out of range.
    """

    epochs: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(f"trainer.mechanism.epochs={self.epochs} must be at least 1; FedAvg is SharedModel.")

    def parts(self) -> tuple[Target, Payment]:
        """Return the same share for all: the server's model, adapted."""
        return Everything(), ServerModel(final_epochs=self.epochs)
