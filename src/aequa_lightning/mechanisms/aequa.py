"""Aequa: widths that equalise the participants' gains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.mechanism import PaidByWidth
from aequa_lightning.rewards.allocation.allocate import Allocation, allocate_widths, check_slope
from aequa_lightning.rewards.allocation.frontier import Frontier, pareto_front
from aequa_lightning.rewards.allocation.problem import claimed_floors
from aequa_lightning.rewards.allocation.solve import OBJECTIVES
from aequa_lightning.rewards.allocation.uncertainty import OfMeans, Resampled, bootstrap, only_mean

# Any measure will do for these; the others compare a contribution with an accuracy.
IN_ANY_UNIT = ("proportional", "pearson", "full")


@dataclass(frozen=True)
class Aequa(PaidByWidth):
    """Fair model rewards after training (Tastan et al., ICML 2025, section 4.2).

    The paper fixes neither the form of the objective nor a treatment of curves that cannot reach every target; both
    are settings here, and the optimum is exact.

    Args:
        contribution: The measure that is paid for. ``standalone`` is the accuracy alone, on the validation part; any
            other is no accuracy and goes with the objectives ``proportional`` (a negative contribution counts as 0;
            where none is positive, everybody receives the full width) and ``pearson``.
        objective: What the allocation minimises; see :func:`~aequa_lightning.rewards.allocate_widths`.
        slope: Accuracy that one more unit of contribution deserves, or ``auto`` for the largest up to 1 that fits.
        individually_rational: Whether nobody may receive less than it reaches alone, where the widths allow it. Whoever
            brought nothing by the measure, be it that the gates caught it, has no such claim.
        full_width_for_top: Whether the top contributor receives the full width.
        resolution: The accuracy curve is refined until neighbouring widths differ by no more, in [0, 1].
        per_layer_widths: Whether steps larger than that are filled with widths whose layers differ.
        bootstrap_samples: How often the validation part is drawn anew for the intervals of fairness figures and
            widths, >= 0; 300 are enough for intervals at 90 %.

    Raises:
        InputError: The slope, the resolution or the number of bootstrap samples is out of range, or the objective is
            unknown or does not fit the contribution measure.
    """

    contribution: str = "standalone"
    objective: str = "cv"
    slope: float | Literal["auto"] = "auto"
    individually_rational: bool = True
    full_width_for_top: bool = True
    resolution: float = 0.005
    per_layer_widths: bool = False
    bootstrap_samples: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.resolution <= 1:
            raise InputError(f"trainer.mechanism.resolution={self.resolution} is outside [0, 1].")
        if self.bootstrap_samples < 0:
            raise InputError(
                f"trainer.mechanism.bootstrap_samples={self.bootstrap_samples} is negative; 0 makes no intervals."
            )
        if self.objective not in OBJECTIVES:
            raise InputError(
                f"trainer.mechanism.objective={self.objective!r} is unknown; choose one of {', '.join(OBJECTIVES)}."
            )
        check_slope(self.slope)
        if self.contribution != "standalone" and self.objective not in IN_ANY_UNIT:
            raise InputError(
                f"trainer.mechanism.objective={self.objective!r} compares contributions with accuracies, but "
                f"contribution={self.contribution!r} is no accuracy; choose objective 'proportional' or 'pearson'."
            )

    def allocate(
        self,
        contributions: Sequence[float],
        accuracy_by_width: dict[float, float],
        *,
        standalone: Sequence[float] | None,
        held: Sequence[float],
    ) -> Allocation:
        """Choose the widths by the exact optimiser."""
        floors = None
        if self.individually_rational and standalone is not None:
            floors = claimed_floors(standalone, contributions)
        return allocate_widths(
            [max(0.0, one) for one in contributions] if self.objective == "proportional" else contributions,
            accuracy_by_width,
            self.objective,
            slope=self.slope,
            floors=floors,
            pin_top=self.full_width_for_top,
        )

    def frontier(self, standalone: Sequence[float], accuracy_by_width: Mapping[float, float]) -> Frontier:
        """Return the Pareto front under the same rules."""
        floors = standalone if self.individually_rational else None
        return pareto_front(standalone, accuracy_by_width, floors=floors, pin_top=self.full_width_for_top)

    def resample(
        self,
        contributions: Sequence[float],
        statistics: NDArray[np.float64],
        widths: Sequence[float],
        *,
        of_means: OfMeans = only_mean,
        seed: int,
    ) -> Resampled | None:
        """Choose again under the same rules; gains mean something only where contributions are accuracies."""
        if self.contribution != "standalone" or not self.bootstrap_samples or not statistics.shape[-1]:
            return None
        return bootstrap(
            statistics,
            widths,
            contributions,
            of_means=of_means,
            objective=self.objective,
            slope=self.slope,
            floors_at_contribution=self.individually_rational,
            pin_top=self.full_width_for_top,
            repeats=self.bootstrap_samples,
            seed=seed,
        )
