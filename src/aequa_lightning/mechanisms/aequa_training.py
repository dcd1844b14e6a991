"""Aequa with rewards in every round: in training nobody receives a model that is better than it deserves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.mechanism import PaidByWidth
from aequa_lightning.rewards.allocation.allocate import Allocation, allocate_widths, check_slope
from aequa_lightning.rewards.allocation.curve import offered_widths
from aequa_lightning.rewards.allocation.deserved import deserved_accuracy, levels_no_better, pay_deserved
from aequa_lightning.rewards.allocation.problem import claimed_floors
from aequa_lightning.slimmable import Distillation

Payout = Literal["no_better", "nearest", "exact"]


@dataclass(frozen=True)
class AequaTraining(PaidByWidth):
    """Training-time rewards (Tastan et al., ICML 2025, Algorithm 2).

    Every round a participant receives, trains and returns only the sub-network of its width; each weight is averaged
    over those who hold it. The paper publishes neither the map from contributions to widths nor a remedy for weights
    that few hold. Here:

    * In every round each participant receives the widest sub-network that is *no better than deserved*. A participant
      deserves ``A - B (c_max - c_i)``, where A is the accuracy of the full width, and at least the best that anybody
      reaches alone. With B = 1 that is the same gain for all. While the shared model is worse than what each has of its
      own, all hold the full width: that gives nothing away, and all weights learn from all.
    * The narrowest sub-network of a round is trained by all who take part. Those who hold more let it, or another one
      that many hold, teach the wider ones on their data, since weights that few hold forget what these few have no data
      of. The teacher is part of what they hold, so nobody receives more for it.

    After the last round everybody receives its reward, a width of the refined curve that ``payout`` chooses. It is cut
    from the model of the round whose full width was best: the further apart the widths, the less others teach the full
    one, and it may end up worse than it was.

    Args:
        contribution: The measure that is paid for, as it stands before each round.
        slope: B, the accuracy that one more unit of contribution deserves, >= 0; ``auto``: the largest up to 1 at which
            the least contributor deserves no less than the worst width on offer. ``standalone`` counts in accuracies,
            other measures in units of their own.
        payout: Which width is the reward. ``no_better``: the best that is no better than deserved; ``nearest``: the
            nearest to what is deserved; ``exact``: the exact optimiser of CGS/MCG, as :class:`Aequa` uses it, for
            ``standalone`` only.
        individually_rational: Whether nobody's reward may be worse than what it reaches alone, unless the full width
            is: where a step of the curve holds no width between, the reward is then better than deserved. Whoever
            brought nothing by the measure has no such claim. The rounds do not take it into account.
        distillation: Share of the wider widths' loss that the teacher's outputs make up, in [0, 1], in the place of
            the model's own distillation; 0: none, as in the paper.
        teacher: Which of the different widths that are held in a round teaches the wider ones: its place from the
            widest, such as 3 for the third-widest (the narrowest where there are fewer), >= 1; None: the narrowest.
        resolution: The last curve is refined until neighbouring widths differ by no more, in [0, 1].
        per_layer_widths: Whether steps larger than that are filled with widths whose layers differ: below a gap a
            reward stays short of what is deserved by as much.

    Raises:
        InputError: A value is out of range.
    """

    holds_widths = True
    pays_best_round = True

    contribution: str = "standalone"
    slope: float | Literal["auto"] = "auto"
    payout: Payout = "no_better"
    individually_rational: bool = True
    distillation: float = 0.5
    teacher: int | None = None
    resolution: float = 0.005
    per_layer_widths: bool = True

    def __post_init__(self) -> None:
        for key in ("distillation", "resolution"):
            if not 0 <= getattr(self, key) <= 1:
                raise InputError(f"trainer.mechanism.{key}={getattr(self, key)} is outside [0, 1].")
        if self.teacher is not None and self.teacher < 1:
            raise InputError(
                f"trainer.mechanism.teacher={self.teacher} is no place from the widest; give 1 or more, or null."
            )
        if self.payout not in get_args(Payout):
            raise InputError(
                f"trainer.mechanism.payout={self.payout!r} is unknown; choose one of {', '.join(get_args(Payout))}."
            )
        if self.payout == "exact" and self.contribution != "standalone":
            raise InputError(
                f"trainer.mechanism.payout='exact' compares contributions with accuracies, but contribution="
                f"{self.contribution!r} is no accuracy; choose 'no_better' or 'nearest'."
            )
        check_slope(self.slope)

    def hold(
        self,
        contributions: Sequence[float],
        accuracy_by_width: Mapping[float, float],
        *,
        standalone: Sequence[float] | None,
        smallest: float,
    ) -> list[float]:
        """Choose everybody's width for the next round; before the first one nothing has been learned yet."""
        if not accuracy_by_width:
            return [1.0] * len(contributions)
        return earned_widths(contributions, accuracy_by_width, slope=self.slope, standalone=standalone)[0]

    def distil(self, held: Sequence[float]) -> Distillation | None:
        """Let one of the widths that are held teach the wider ones."""
        if not self.distillation:
            return None
        descending = sorted(set(held), reverse=True)
        return Distillation(self.distillation, teacher=descending[: self.teacher][-1])

    def allocate(
        self,
        contributions: Sequence[float],
        accuracy_by_width: dict[float, float],
        *,
        standalone: Sequence[float] | None,
        held: Sequence[float],
    ) -> Allocation:
        """Choose what everybody receives after the last round, and say how fair it is."""
        curve = offered_widths(accuracy_by_width)
        due = deserved_accuracy(contributions, curve, slope=self.slope, standalone=standalone)
        floors = None
        if self.individually_rational and standalone is not None:
            floors = claimed_floors(standalone, contributions)
        if self.payout == "exact":
            return allocate_widths(contributions, accuracy_by_width, slope=due.slope, floors=floors)
        return pay_deserved(contributions, accuracy_by_width, due, rounding=self.payout, floors=floors)


def earned_widths(
    contributions: Sequence[float],
    accuracy_by_width: Mapping[float, float],
    *,
    slope: float | Literal["auto"],
    standalone: Sequence[float] | None,
) -> tuple[list[float], float]:
    """Return for each participant the widest offered width that is no better than what it deserves.

    Participant i deserves ``A - B (c_max - c_i)`` with ``A = max(a(1), best standalone)``.

    Args:
        contributions: In any unit, (N,).
        accuracy_by_width: Accuracy in [0, 1] of each measured width; :func:`offered_widths` says which are handed out.
        slope: B, >= 0; ``auto``: ``min(1, (A - lowest accuracy on offer) / (c_max - c_min))``.
        standalone: Accuracy in [0, 1] that each participant reaches alone, (N,); None: not known, and A is a(1).

    Returns:
        Widths, (N,), and the slope. The narrowest width where all are better than what is deserved; the top contributor
        always has the full one.

    Example:
        >>> curve = {0.25: 0.5, 0.5: 0.75, 1.0: 1.0}
        >>> earned_widths([0.25, 0.625, 0.75], curve, slope="auto", standalone=[0.25, 0.625, 0.75])
        ([0.25, 0.5, 1.0], 1.0)
        >>> # Until the shared model is as good as what the best has alone, it may be held by whoever is as good.
        >>> earned_widths([0.5, 1.0], {0.5: 0.25, 1.0: 0.5}, slope=1.0, standalone=[0.5, 1.0])
        ([1.0, 1.0], 1.0)
    """
    curve = offered_widths(accuracy_by_width)
    due = deserved_accuracy(contributions, curve, slope=slope, standalone=standalone)
    levels = levels_no_better(curve, due.of(contributions))
    return [float(width) for width in curve.widths[levels]], due.slope
