"""RFFL: masks by reputation, and removal of those without one."""

from dataclasses import dataclass

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.mechanism import Measure, PaidInRounds
from aequa_lightning.mechanisms.payment import Masking, Payment
from aequa_lightning.mechanisms.targets import Surviving, Target


@dataclass(frozen=True)
class RFFL(PaidInRounds):
    """Robust and fair federated learning (Xu and Lyu, "A Reputation Mechanism Is All You Need", 2021).

    Like CGSV with shares ``r_i / max r``; after some rounds whoever has less than a third of an equal share of
    reputation receives nothing. The source removes it for good, as the measure ``rffl`` does; with ``cosine`` the
    question is asked in every round, and the gates may have done so before.

    Args:
        contribution: The measure that is paid for.
        threshold: Part of an equal share of reputation below which one receives nothing, in [0, 1).
        after: Rounds in which nobody is left out, >= 0.
        length: Length that every update is scaled to, > 0.

    Raises:
        InputError: A value is out of range.
    """

    contribution: Measure = "cosine"
    threshold: float = 1 / 3
    after: int = 10
    length: float = 0.5

    def __post_init__(self) -> None:
        Surviving(self.threshold, self.after)
        if not self.length > 0:
            raise InputError(f"trainer.mechanism.length={self.length} must be above 0.")

    def parts(self) -> tuple[Target, Payment]:
        """Return ratios of those who stay, and masks of the aggregate."""
        return Surviving(self.threshold, self.after), Masking(self.length)
