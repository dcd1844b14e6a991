"""The usual federated reward: the same full model for all. The yardstick of what fairness costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from aequa_lightning.mechanisms.mechanism import Measure, PaidByWidth
from aequa_lightning.rewards.allocation.allocate import Allocation, allocate_widths


@dataclass(frozen=True)
class SharedModel(PaidByWidth):
    """Everybody receives the full width, as in federated averaging (McMahan et al. 2017).

    Args:
        contribution: The measure that the report sets against what is received; it decides nothing.
    """

    contribution: Measure = "standalone"

    def allocate(
        self,
        contributions: Sequence[float],
        accuracy_by_width: dict[float, float],
        *,
        standalone: Sequence[float] | None,
        held: Sequence[float],
    ) -> Allocation:
        """Give everybody the full width."""
        return allocate_widths(contributions, accuracy_by_width, "full")
