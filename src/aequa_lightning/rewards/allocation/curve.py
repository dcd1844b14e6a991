"""The accuracy of every width, and which of the widths may be handed out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.errors import InputError


@dataclass(frozen=True, eq=False)
class Curve:
    """The widths on offer, narrow to wide, whose accuracies rise strictly with the width.

    Attributes:
        widths: Widths in (0, 1], ascending, (M,); the last one is the full width.
        accuracies: Their accuracies, strictly ascending, (M,).
        inversions: What is not on offer: ``(width, accuracy, reason)``.
    """

    widths: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    inversions: tuple[tuple[float, float, str], ...]

    def by_width(self) -> dict[float, float]:
        """Return the accuracy of each width on offer, ascending."""
        return dict(zip(self.widths.tolist(), self.accuracies.tolist(), strict=True))


def offered_widths(accuracy_by_width: Mapping[float, float]) -> Curve:
    """Choose the widths that may be handed out, so that a narrower width that is better is never paid less.

    The top contributor is owed the full width (the largest key), so nobody may receive a width that measured better.
    Of the others, a width is on offer only when it is at least as good as every narrower one on offer; of equal ones
    the widest is kept. What is offered therefore rises strictly with the width, and the full width is its last.

    Args:
        accuracy_by_width: Accuracy (0..1) of each measured width (0..1].

    Returns:
        The curve of offered widths; what is wrong with the rest stands in its ``inversions``.

    Raises:
        InputError: When it is empty, or a width or an accuracy is out of range.

    Example:
        >>> curve = offered_widths({0.25: 0.6, 0.5: 0.5, 0.75: 0.95, 1.0: 0.9})
        >>> curve.widths.tolist(), curve.accuracies.tolist()
        ([0.25, 1.0], [0.6, 0.9])
        >>> for width, accuracy, reason in curve.inversions:
        ...     print(width, reason)
        0.5 worse than the narrower width 0.25
        0.75 better than the full width by 0.05
    """
    _check(accuracy_by_width)
    ascending = sorted((float(width), float(accuracy)) for width, accuracy in accuracy_by_width.items())
    full = ascending[-1]
    offered: list[tuple[float, float]] = []
    inversions: list[tuple[float, float, str]] = []
    for width, accuracy in ascending:
        if accuracy > full[1]:
            inversions.append((width, accuracy, f"better than the full width by {accuracy - full[1]:.6g}"))
        elif offered and accuracy < offered[-1][1]:
            inversions.append((width, accuracy, f"worse than the narrower width {offered[-1][0]:.6g}"))
        else:
            if offered and accuracy == offered[-1][1]:
                inversions.append((*offered.pop(), f"as good as the wider width {width:.6g}"))
            offered.append((width, accuracy))
    widths, accuracies = np.array(offered, dtype=np.float64).T
    return Curve(widths, accuracies, tuple(sorted(inversions)))


def refine(
    curve_so_far: Mapping[float, float],
    distinct_widths: Sequence[float],
    resolution: float,
    *,
    limit: int | None = None,
) -> list[float]:
    """Choose the widths to measure next where the curve is steep.

    Between each pair of neighbouring measured widths whose accuracies differ by more than ``resolution``, this is the
    middle one of the sub-networks that lie between. Measure, add, and ask again until nothing is returned.

    Args:
        curve_so_far: Accuracy (0..1) of each width measured so far.
        distinct_widths: One width (0..1] for each sub-network that differs from the others.
        resolution: The largest difference in accuracy that may stay unresolved, at least 0.
        limit: How many widths are returned at most: those between the neighbours that differ most; None: all.

    Returns:
        Widths to measure next, ascending; empty when the curve is fine enough.

    Raises:
        InputError: When the curve is empty, a width or an accuracy is out of range, or the resolution is negative.

    Example:
        >>> refine({0.1: 0.2, 0.5: 0.8, 1.0: 0.801}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0], 0.005)
        [0.3]
        >>> refine({0.1: 0.2, 0.5: 0.8}, [0.1, 0.5], 0.005)
        []
        >>> refine({0.1: 0.2, 0.3: 0.3, 0.5: 0.8}, [0.1, 0.2, 0.3, 0.4, 0.5], 0.005, limit=1)
        [0.4]
    """
    _check(curve_so_far)
    if not resolution >= 0:
        raise InputError(f"resolution is {resolution}, but must be at least 0.")
    measured = sorted(curve_so_far)
    distinct = sorted(set(distinct_widths))
    chosen = []
    for narrow, wide in pairwise(measured):
        between = [width for width in distinct if narrow < width < wide]
        difference = abs(curve_so_far[wide] - curve_so_far[narrow])
        if between and difference > resolution:
            chosen.append((-difference, between[(len(between) - 1) // 2]))
    return sorted(width for _, width in sorted(chosen)[:limit])


def fills_a_gap(accuracy_by_width: Mapping[float, float], width: float, accuracy: float) -> bool:
    """Tell whether one more width would be on offer without taking any other off it.

    Args:
        accuracy_by_width: Accuracy (0..1) of each measured width (0..1].
        width: Another width, in (0, 1].
        accuracy: Its accuracy, 0..1.

    Example:
        >>> curve = {0.5: 0.6, 1.0: 0.9}
        >>> [fills_a_gap(curve, 0.75, accuracy) for accuracy in (0.5, 0.6, 0.7, 0.9, 0.95)]
        [False, False, True, False, False]
    """
    before, after = offered_widths(accuracy_by_width), offered_widths({**accuracy_by_width, width: accuracy})
    return after.by_width().keys() == before.by_width().keys() | {width}


def _check(accuracy_by_width: Mapping[float, float]) -> None:
    if not accuracy_by_width:
        raise InputError("accuracy_by_width is empty; measure at least the full width.")
    for width, accuracy in accuracy_by_width.items():
        if not 0 < width <= 1:
            raise InputError(f"accuracy_by_width has the width {width}; widths lie in (0, 1].")
        if not (isfinite(accuracy) and 0 <= accuracy <= 1):
            raise InputError(f"accuracy_by_width gives width {width} the accuracy {accuracy}; accuracies lie in 0..1.")
