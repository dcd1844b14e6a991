"""The question an allocation answers: who may receive which level, once every rule has been taken in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.allocation.curve import Curve, offered_widths


@dataclass(frozen=True, eq=False)
class Problem:
    """Distinct contributions, and the lowest level that each may receive.

    Equal contributions must receive equal widths, so participants are grouped by contribution. An allocation gives each
    group a level (an index into the curve) of at least ``lowest``, never falling as the contribution rises.

    Attributes:
        curve: The M levels on offer.
        contributions: Distinct contributions, ascending, (G,).
        counts: How many participants have each of them, (G,).
        lowest: Lowest level that each group may receive, non-decreasing, (G,).
        group: The group of each participant, (N,).
        unmet_floors: Participants whose floor lies above the full width's accuracy; they receive the full width.
    """

    curve: Curve
    contributions: NDArray[np.float64]
    counts: NDArray[np.int64]
    lowest: NDArray[np.int64]
    group: NDArray[np.int64]
    unmet_floors: tuple[int, ...]

    @property
    def top(self) -> int:
        """The level of the full width."""
        return len(self.curve.widths) - 1


def build_problem(
    contributions: ArrayLike,
    accuracy_by_width: Mapping[float, float],
    *,
    floors: ArrayLike | None = None,
    pin_top: bool = True,
) -> Problem:
    """Take in the rules: order, symmetry, floors and the top contributor's full width.

    A floor holds for everybody who contributed at least as much (Lemma: closing the floors under the order loses no
    admissible allocation), and the pin is a floor at the full width.

    Args:
        contributions: Contributions, (N,), in any unit.
        accuracy_by_width: Accuracy (0..1) of each measured width (0..1].
        floors: Accuracy that each participant must at least receive, (N,); none by default.
        pin_top: Whether all top contributors receive the full width.

    Returns:
        The grouped problem.

    Raises:
        InputError: When a shape does not fit or a number is not finite.

    Example:
        >>> problem = build_problem([0.3, 0.5, 0.3], {0.5: 0.6, 1.0: 0.9}, floors=[0.0, 0.0, 0.7])
        >>> problem.contributions.tolist(), problem.counts.tolist(), problem.lowest.tolist()
        ([0.3, 0.5], [2, 1], [1, 1])
    """
    curve = offered_widths(accuracy_by_width)
    given = np.asarray(contributions, dtype=np.float64)
    if given.ndim != 1 or given.size == 0:
        raise InputError(f"contributions have the shape {given.shape}; give one number per participant, at least one.")
    if not np.isfinite(given).all():
        raise InputError(
            f"contributions are not finite for participants {np.flatnonzero(~np.isfinite(given)).tolist()}."
        )
    required = np.full(given.shape, -np.inf) if floors is None else np.asarray(floors, dtype=np.float64)
    if required.shape != given.shape or np.isnan(required).any():
        raise InputError(f"floors have the shape {required.shape} or hold NaN; give one number per participant.")

    distinct, group, counts = np.unique(given, return_inverse=True, return_counts=True)
    highest = np.full(distinct.shape, -np.inf)
    np.maximum.at(highest, group, required)
    top = len(curve.widths) - 1
    lowest = np.minimum(np.searchsorted(curve.accuracies, np.maximum.accumulate(highest)), top)
    if pin_top:
        lowest[-1] = top
    unmet = tuple(np.flatnonzero(required > curve.accuracies[-1]).tolist())
    return Problem(curve, distinct, counts, lowest, group, unmet)


def claimed_floors(standalone: Sequence[float], contributions: Sequence[float]) -> list[float]:
    """Return the accuracy below which nobody may be paid: what each reaches alone, 0 for who contributed nothing.

    A floor holds for everybody who contributed more, too: one without a contribution must not lift the others.

    Args:
        standalone: Accuracy of each participant alone, in [0, 1], (N,).
        contributions: In any unit, (N,).

    Example:
        >>> claimed_floors([0.5, 0.75], [-0.125, 0.25])
        [0.0, 0.75]
    """
    return [alone if brought > 0 else 0.0 for alone, brought in zip(standalone, contributions, strict=True)]
