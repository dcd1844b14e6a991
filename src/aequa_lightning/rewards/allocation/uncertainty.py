"""How far the figures of an allocation depend on which samples happened to be in the validation part."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.allocation.allocate import allocate_widths

Array = NDArray[np.float64]
OfMeans = Callable[[Array], float]
"""Means over samples of what a score keeps of each, (K,) -> score in [0, 1]."""


def only_mean(means: Array) -> float:
    """Return the one mean, which is the score.

    Example:
        >>> only_mean(np.array([0.5]))
        0.5
    """
    return float(means[0])


@dataclass(frozen=True, eq=False)
class Resampled:
    """The allocations of R resampled validation parts.

    Attributes:
        mcg: Mean collaboration gain of each, (R,).
        cgs: Collaboration gain spread of each, (R,).
        pearson: Correlation of each, (R,); NaN where it is undefined.
        widths: Width of each participant in each, (R, N).
    """

    mcg: Array
    cgs: Array
    pearson: Array
    widths: Array

    def interval(self, figure: str, *, level: float = 0.95) -> tuple[float, float]:
        """Return the percentile interval of ``mcg``, ``cgs`` or ``pearson``; NaN where nothing is defined.

        Example:
            >>> figures = np.linspace(0, 1, 101)
            >>> Resampled(figures, figures, figures, figures[:, None]).interval("mcg", level=0.5)
            (0.25, 0.75)
        """
        values = getattr(self, figure)
        values = values[~np.isnan(values)]
        if len(values) == 0:
            return float("nan"), float("nan")
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def width_shares(self, participant: int) -> dict[float, float]:
        """Return how often the participant received each width, for those that it received at all.

        Example:
            >>> Resampled(*np.zeros((3, 4)), np.array([[0.5], [1.0], [1.0], [1.0]])).width_shares(0)
            {0.5: 0.25, 1.0: 0.75}
        """
        widths, counts = np.unique(self.widths[:, participant], return_counts=True)
        return dict(zip(widths.tolist(), (counts / len(self.widths)).tolist(), strict=True))


def bootstrap(
    statistics: ArrayLike,
    widths: Sequence[float],
    contributions: ArrayLike,
    *,
    of_means: OfMeans = only_mean,
    objective: str = "cv",
    slope: float | str = 1.0,
    floors_at_contribution: bool = False,
    pin_top: bool = True,
    repeats: int = 1000,
    seed: int = 0,
) -> Resampled:
    """Draw the validation samples anew, with replacement, and allocate again each time.

    Args:
        statistics: What the score keeps of each sample at each width, (M, S, K), such as whether it is classified
            correctly.
        widths: The widths, (M,).
        contributions: Contributions, (N,), which stay as they are.
        of_means: Means of the statistics, (K,) -> score in [0, 1].
        objective: See ``allocate_widths``.
        slope: See ``allocate_widths``.
        floors_at_contribution: Whether nobody may receive less than its contribution.
        pin_top: See ``allocate_widths``.
        repeats: How many times, at least 1.
        seed: Source of all randomness.

    Raises:
        InputError: When the shapes do not fit, or as ``allocate_widths`` does.

    Example:
        >>> correct = np.array([[1, 0, 1, 0], [1, 1, 1, 1]])
        >>> drawn = bootstrap(correct[:, :, None], [0.5, 1.0], [0.2, 0.6], repeats=50)
        >>> drawn.widths.shape, drawn.width_shares(1)
        ((50, 2), {1.0: 1.0})
    """
    kept = np.asarray(statistics, dtype=np.float64)
    brought = np.asarray(contributions, dtype=np.float64)
    if kept.ndim != 3 or len(kept) != len(widths) or 0 in kept.shape or repeats < 1:
        raise InputError(
            f"statistics have the shape {kept.shape} for {len(widths)} widths, with repeats={repeats}; "
            "it is (widths, samples, numbers), and there is at least one of each."
        )
    rng = np.random.default_rng(seed)
    samples = kept.shape[1]
    drawn = []
    for _ in range(repeats):
        times = rng.multinomial(samples, np.full(samples, 1 / samples))
        means = times @ kept / samples
        allocation = allocate_widths(
            brought,
            {width: of_means(row) for width, row in zip(widths, means, strict=True)},
            objective,
            slope=slope,
            floors=brought if floors_at_contribution else None,
            pin_top=pin_top,
        )
        drawn.append(allocation)
    return Resampled(
        mcg=np.array([allocation.mcg for allocation in drawn]),
        cgs=np.array([allocation.cgs for allocation in drawn]),
        pearson=np.array([np.nan if one.pearson is None else one.pearson for one in drawn]),
        widths=np.array([allocation.widths for allocation in drawn]),
    )
