"""How participants are paid: a contribution measure, a target, and a means of payment."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.mechanisms.payment import Payment
from aequa_lightning.mechanisms.targets import Target
from aequa_lightning.rewards.allocation.allocate import Allocation
from aequa_lightning.rewards.allocation.curve import offered_widths
from aequa_lightning.rewards.allocation.frontier import Frontier, pareto_front
from aequa_lightning.rewards.allocation.uncertainty import OfMeans, Resampled, only_mean
from aequa_lightning.slimmable import Distillation


class Mechanism:
    """Base of all mechanisms: those that pay with a width in the end, and those that pay with a model in every round.

    Attributes:
        contribution: Name of the measure that decides, one of ``aequa_lightning.contributions.MEASURES``.
        individually_rational: Whether nobody may receive less than it reaches alone.
        holds_widths: Whether participants may hold less than the full width in training.
        own_models: Whether everybody starts a round from a model of its own, which the mechanism delivers.
        trains_all_widths: Whether participants train the whole grid of widths, or the full width only.
        resolution: Largest step in accuracy that the curve may keep between neighbouring widths, in [0, 1].
        per_layer_widths: Whether widths whose layers differ are offered where the curve still has larger steps.
        pays_best_round: Whether rewards are cut from the model of the round whose full width was best, not the last.
        averaging: How updates count in the server's model: ``weights``: by the aggregator's weights; ``alike``: all
            alike; ``moved``: all alike, and each entry is averaged over those who moved it.
        length: Length of updates, for the measure ``rffl`` and for mechanisms that bring updates to a length, > 0.
        clip: Magnitude that the measure ``cffl`` cuts entries of updates to, > 0; None: it takes them as they are.
    """

    contribution: str = "standalone"
    individually_rational: bool = False
    trains_all_widths: bool = True
    own_models: bool = False
    holds_widths: bool = False
    resolution: float = 0.005
    per_layer_widths: bool = False
    pays_best_round: bool = False
    averaging: Literal["weights", "alike", "moved"] = "weights"
    length: float = 0.5
    clip: float | None = None

    def frontier(self, standalone: Sequence[float], accuracy_by_width: Mapping[float, float]) -> Frontier:
        """Return what could have been chosen: mean gain against spread, over what everybody reaches alone.

        Args:
            standalone: Validation accuracy in [0, 1] that each participant reaches alone, (N,).
            accuracy_by_width: Validation accuracy in [0, 1] of every measured width.
        """
        floors = standalone if self.individually_rational else None
        return pareto_front(standalone, accuracy_by_width, floors=floors)

    def resample(
        self,
        contributions: Sequence[float],
        statistics: NDArray[np.float64],
        widths: Sequence[float],
        *,
        of_means: OfMeans = only_mean,
        seed: int,
    ) -> Resampled | None:
        """Choose again for resampled validation parts; None where that says nothing.

        Args:
            contributions: By the mechanism's measure, (N,).
            statistics: What the score keeps of each validation sample at each width, (M, S, K); K is 0 where it keeps
                nothing.
            widths: The offered widths, (M,).
            of_means: Means of the statistics, (K,) -> score.
            seed: Source of all randomness.
        """
        return None


class PaidByWidth(Mechanism, ABC):
    """Base of the mechanisms that pay with a width of the shared model."""

    def hold(
        self,
        contributions: Sequence[float],
        accuracy_by_width: Mapping[float, float],
        *,
        standalone: Sequence[float] | None,
        smallest: float,
    ) -> list[float] | None:
        """Choose what every participant receives for the next round; None: the full width, in all rounds.

        Args:
            contributions: By the mechanism's measure, as known so far, (N,).
            accuracy_by_width: Validation accuracy in [0, 1] of every width of the grid; empty before the first round.
            standalone: Validation accuracy in [0, 1] that each participant reaches alone, (N,); None: not known.
            smallest: Smallest width, in (0, 1].
        """
        return None

    def distil(self, held: Sequence[float]) -> Distillation | None:
        """Choose which widths learn from another one in the next round, besides the targets.

        Args:
            held: Widths of those who take part, at least one.
        """
        return None

    @abstractmethod
    def allocate(
        self,
        contributions: Sequence[float],
        accuracy_by_width: dict[float, float],
        *,
        standalone: Sequence[float] | None,
        held: Sequence[float],
    ) -> Allocation:
        """Choose the width that every participant receives in the end.

        Args:
            contributions: By the mechanism's measure, (N,).
            accuracy_by_width: Validation accuracy in [0, 1] of every measured width.
            standalone: Validation accuracy in [0, 1] that each participant reaches alone, (N,); None: not known.
            held: Width that each participant held in the last round, (N,).
        """


class PaidInRounds(Mechanism, ABC):
    """Base of the mechanisms that send everybody a model of its own in every round; the last one is the reward.

    They train the full width only: the shared network need not be slimmable. Every process keeps the models of all
    participants.
    """

    trains_all_widths = False
    own_models = True

    @abstractmethod
    def parts(self) -> tuple[Target, Payment]:
        """Return what share of the reward a contribution deserves, and how the share becomes a model."""


def held_allocation(
    contributions: Sequence[float],
    widths: Sequence[float],
    accuracies: Sequence[float],
    *,
    accuracy_by_width: Mapping[float, float],
    slope: float = 1.0,
    objective: str = "held in the last round",
) -> Allocation:
    """Describe what everybody holds as an allocation, with the figures that say how fair it is.

    Args:
        contributions: By the mechanism's measure, (N,).
        widths: Width of what each holds, in (0, 1], (N,).
        accuracies: Validation accuracy of what each holds, in [0, 1], (N,).
        accuracy_by_width: Validation accuracy in [0, 1] of every measured width of the shared model.
        slope: Accuracy that one more unit of contribution deserves, >= 0.
        objective: The rule that chose it, in words.

    Example:
        >>> held_allocation([0.5, 0.75], [0.5, 1.0], [0.75, 1.0], accuracy_by_width={0.5: 0.75, 1.0: 1.0}).mcg
        0.25
    """
    return Allocation(
        contributions=np.array(contributions, dtype=np.float64),
        widths=np.array(widths, dtype=np.float64),
        accuracies=np.array(accuracies, dtype=np.float64),
        objective=objective,
        objective_value=0.0,
        slope=slope,
        certificate={"kind": "held", "remarks": ["rewards follow the contributions of each round"]},
        curve=offered_widths(accuracy_by_width),
    )


def tried(mechanism: Mechanism) -> Mechanism:
    """Return the mechanism with the payout shortened for a trial: the grid alone is measured, without intervals.

    Example:
        >>> from aequa_lightning.mechanisms import Aequa
        >>> tried(Aequa(slope=0.5)) == Aequa(slope=0.5, resolution=1.0, bootstrap_samples=0)
        True
    """
    short = {"resolution": 1.0, "bootstrap_samples": 0, "per_layer_widths": False}
    names: set[str] = {field.name for field in fields(mechanism)} if is_dataclass(mechanism) else set()
    return replace(mechanism, **{name: value for name, value in short.items() if name in names})  # type: ignore[type-var]
