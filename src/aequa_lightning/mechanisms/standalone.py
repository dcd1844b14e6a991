"""No collaboration: everybody keeps what it trains alone. The yardstick of what collaboration is worth."""

from dataclasses import dataclass

from aequa_lightning.mechanisms.mechanism import PaidInRounds
from aequa_lightning.mechanisms.payment import OwnModel, Payment
from aequa_lightning.mechanisms.targets import Everything, Target


@dataclass(frozen=True)
class Standalone(PaidInRounds):
    """Each trains its own model, round after round, with the optimizer begun anew in each.

    The ``standalone`` measure is the same training in one go, with the optimizer's memory kept; the two differ a
    little.
    """

    def parts(self) -> tuple[Target, Payment]:
        """Return the same share for all, and nothing to share."""
        return Everything(), OwnModel()
