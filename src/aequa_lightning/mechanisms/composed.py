"""A mechanism put together from parts: contribution measure, target, means of payment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aequa_lightning.mechanisms.mechanism import PaidByWidth, PaidInRounds, held_allocation
from aequa_lightning.mechanisms.payment import Payment, ServerModel
from aequa_lightning.mechanisms.targets import Relative, Target
from aequa_lightning.rewards.allocation.allocate import Allocation


@dataclass(frozen=True)
class Composed(PaidInRounds):
    """Any contribution measure with any target and any means of payment, so that one can be changed at a time.

    Args:
        contribution: The measure that is paid for, as it stands in each round.
        target: What share of the reward a contribution deserves.
        payment: How the share becomes a model.
    """

    contribution: str = "standalone"
    target: Target = field(default_factory=Relative)
    payment: Payment = field(default_factory=ServerModel)

    def parts(self) -> tuple[Target, Payment]:
        """Return the parts as they were given."""
        return self.target, self.payment


@dataclass(frozen=True)
class Slimming(PaidByWidth):
    """The same composition with widths as the means of payment: in every round the share is the width that is held.

    Args:
        contribution: The measure that is paid for, as it stands in each round.
        target: What share of the full width a contribution deserves.
    """

    holds_widths = True

    contribution: str = "standalone"
    target: Target = field(default_factory=Relative)

    def hold(
        self,
        contributions: Sequence[float],
        accuracy_by_width: Mapping[float, float],
        *,
        standalone: Sequence[float] | None,
        smallest: float,
    ) -> list[float]:
        """Return everybody's share as a width, not below the smallest."""
        # A width is chosen before the round, from contributions alone.
        shares = self.target.shares(contributions, round=1, likeness=[1.0] * len(contributions))
        return [max(smallest, share) for share in shares.tolist()]

    def allocate(
        self,
        contributions: Sequence[float],
        accuracy_by_width: dict[float, float],
        *,
        standalone: Sequence[float] | None,
        held: Sequence[float],
    ) -> Allocation:
        """Leave everybody what it holds, and say how fair that is."""
        accuracies = [accuracy_by_width[width] for width in held]
        return held_allocation(contributions, held, accuracies, accuracy_by_width=accuracy_by_width)
