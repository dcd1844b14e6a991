"""IAFL: the mean over as many others as one's contribution deserves."""

from dataclasses import dataclass

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.mechanism import Measure, PaidInRounds
from aequa_lightning.mechanisms.payment import Payment, SubsetAveraging
from aequa_lightning.mechanisms.targets import Relative, Target


@dataclass(frozen=True)
class IAFL(PaidInRounds):
    """Incentive-aware federated learning with training-time model rewards (Wu et al., ICML 2024).

    With ``gamma_i = c_i / max c`` participant i averages its own update with those of
    ``ceil(gamma_i ** (1 - kappa) (N - 1))`` others, drawn anew in every round; with probability ``reset`` it is given
    the server's model instead, which is the source's way to keep models from drifting apart.

    Args:
        contribution: The measure that is paid for.
        kappa: 0: in proportion; towards 1: all others for everybody, in [0, 1).
        reset: Probability of a reset in a round, in [0, 1].

    Raises:
        InputError: A value is out of range.
    """

    contribution: Measure = "standalone"
    kappa: float = 0.0
    reset: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.kappa < 1 and 0 <= self.reset <= 1):
            raise InputError(
                f"trainer.mechanism: kappa={self.kappa} must lie in [0, 1) and reset={self.reset} in [0, 1]."
            )

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios, and averages over subsets."""
        return Relative(), SubsetAveraging(self.kappa, self.reset)
