"""The largest Pearson correlation of contribution and received accuracy, by branch and bound.

Regressing contributions on accuracies, 1 - rho^2 is the minimum over (alpha, beta) of

    sum (c_i - alpha - beta x_i)^2 / SS,

SS being the contributions' own sum of squares. For given (alpha, beta) the best x_i is the level nearest to
(c_i - alpha) / beta: whoever lies between the thresholds alpha + beta mid_k, mid_k halfway between levels k and k + 1,
receives the level between them. Measure accuracies from some origin. With fixed x, sum (beta x_i^2 - 2 (c_i - alpha)
x_i) is linear in (alpha, beta), so its minimum h over x is concave. On a triangle of the plane, h is therefore at
least the interpolation of its corners, which makes

    sum (c_i - alpha)^2 + beta h(alpha, beta)

at least a quadratic whose minimum over the triangle is known. Triangles in which that minimum is not below the best rho
found are done; the others are split in four. Where at most one threshold can lie among the contributions, the few
allocations possible are enumerated instead. Coordinates are the lowest and the highest threshold, p and q.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.rewards.allocation.problem import Problem

Array = NDArray[np.float64]
Levels = NDArray[np.int64]

# In units of 1 - rho^2: differences below this are rounding.
_TOLERANCE = 1e-13
_MOST_TRIANGLES = 1_000_000
_STARTS, _STEPS = 12, 12


@dataclass(frozen=True, eq=False)
class Plane:
    """The thresholds' plane and what holds in it, whatever the rules about levels are.

    Attributes:
        contributions: One per participant or group, (G,), with mean 0 over all participants.
        counts: How many participants each stands for, (G,).
        middles: Middles of neighbouring levels, ascending, (M - 1,).
    """

    contributions: Array
    counts: NDArray[np.int64]
    middles: Array

    @property
    def total(self) -> float:
        """Sum of squares of the contributions, SS."""
        return float(self.counts @ self.contributions**2)

    def lines(self, corners: Array, origins: Array | float = 0.0) -> tuple[Array, Array]:
        """Return alpha and beta at (..., 2) coordinates p, q, with accuracies measured from the origins."""
        lowest, highest = self.middles[[0, -1]]
        beta = (corners[..., 1] - corners[..., 0]) / (highest - lowest)
        return corners[..., 0] - beta * (lowest - origins), beta

    def origins(self, corners: Array) -> Array:
        """Return for each triangle, (T, 3, 2), an origin near the accuracies in question: it saves the digits there."""
        alpha, beta = self.lines(corners.mean(axis=1))
        return np.asarray(np.clip(-alpha / beta, self.middles[0], self.middles[-1]))

    def whole(self) -> Array:
        """Return two triangles, (2, 3, 2), outside of which at most one threshold lies among the contributions."""
        least, most = self.contributions.min(), self.contributions.max()
        far = (most - least) * np.ptp(self.middles) / np.diff(self.middles).min()
        first, second, third, fourth = (least, least), (most, most), (most, most + far), (least - far, least)
        return np.array([[first, second, third], [first, third, fourth]])

    def is_contested(self, corners: Array) -> NDArray[np.bool_]:
        """Return for each triangle, (T, 3, 2), whether two thresholds or more can lie among the contributions."""
        alpha, beta = self.lines(corners)
        thresholds = alpha[..., None] + beta[..., None] * self.middles
        inside = (thresholds.min(axis=1) <= self.contributions.max()) & (
            thresholds.max(axis=1) >= self.contributions.min()
        )
        return np.asarray(inside.sum(axis=1) >= 2)

    def halves(self, corners: Array) -> Array:
        """Split triangles, (T, 3, 2), in two at their longest edge, in a measure that is logarithmic far out.

        Where beta is large, what happens changes slowly along beta, and triangles may be long.
        """
        reach = np.ptp(self.contributions)
        alpha, beta = self.lines(corners, self.origins(corners)[:, None])
        scale = np.log(beta + reach / np.ptp(self.middles))
        lengths = np.log1p(np.abs(alpha - alpha[:, [1, 2, 0]]) / reach) + np.abs(scale - scale[:, [1, 2, 0]])
        longest = lengths.argmax(axis=1)
        rows = np.arange(len(corners))
        first, second, third = (corners[rows, (longest + step) % 3] for step in range(3))
        begin, end = (scale[rows, (longest + step) % 3] for step in range(2))
        share = 1 / (1 + np.exp((end - begin) / 2))[:, None]
        middle = first + share * (second - first)
        return np.concatenate((np.stack([first, middle, third], axis=1), np.stack([middle, second, third], axis=1)))

    def residuals(self, corners: Array, origins: Array, supports: Array) -> Array:
        """Return sum (c_i - alpha - beta x_i)^2 / SS of the best x at the corners, (T, 3), of triangles."""
        alpha, beta = self.lines(corners, origins[:, None])
        return np.asarray(1 + (self.counts.sum() * alpha**2 + beta * supports) / self.total)

    def bounds(self, corners: Array, origins: Array, supports: Array) -> Array:
        """Bound 1 - rho^2 from below for all allocations whose best (alpha, beta) lies in a triangle.

        Args:
            corners: Triangles, (T, 3, 2).
            origins: The origin of each, (T,).
            supports: h at their corners, (T, 3).

        Returns:
            Bounds, (T,).
        """
        alpha, beta = self.lines(corners, origins[:, None])
        count = self.counts.sum()

        def residual(weights: Array) -> Array:
            a, b, h = ((weights * values).sum(axis=-1) for values in (alpha, beta, supports))
            return np.asarray(count * a**2 + b * h)

        # Along an edge, and from the first corner into the triangle, alpha, beta and h are linear.
        candidates = [residual(np.broadcast_to(np.eye(3)[corner], alpha.shape)) for corner in range(3)]
        da, db, dh = (values[:, 1:] - values[:, :1] for values in (alpha, beta, supports))
        for start, end in ((0, 1), (1, 2), (2, 0)):
            a, b, h = (values[:, end] - values[:, start] for values in (alpha, beta, supports))
            slope = 2 * count * alpha[:, start] * a + beta[:, start] * h + supports[:, start] * b
            along = _clipped_ratio(-slope, 2 * (count * a**2 + b * h))
            weights = np.zeros_like(alpha)
            weights[:, start], weights[:, end] = 1 - along, along
            candidates.append(residual(weights))
        gradient = 2 * count * alpha[:, :1] * da + beta[:, :1] * dh + supports[:, :1] * db
        diagonal = 2 * (count * da**2 + db * dh)
        off = 2 * count * da[:, 0] * da[:, 1] + db[:, 0] * dh[:, 1] + db[:, 1] * dh[:, 0]
        determinant = diagonal[:, 0] * diagonal[:, 1] - off**2
        first = _clipped_ratio(off * gradient[:, 1] - diagonal[:, 1] * gradient[:, 0], determinant)
        second = _clipped_ratio(off * gradient[:, 0] - diagonal[:, 0] * gradient[:, 1], determinant)
        inside = first + second < 1
        weights = np.stack([1 - first - second, first, second], axis=1)
        candidates.append(np.where(inside, residual(weights), np.inf))
        return np.asarray(1 + np.min(candidates, axis=0) / self.total)


def cover(plane: Plane, support: Callable[[Array, Array], Array], target: Callable[[], float]) -> tuple[float, int]:
    """Split triangles until none can hold an allocation with 1 - rho^2 below the target, among contested ones.

    Args:
        plane: The plane to cover.
        support: Triangles (T, 3, 2) and their origins (T,) -> h at their corners (T, 3).
        target: Returns the 1 - rho^2 to be undercut; it may fall in the course of the search.

    Returns:
        A lower bound of 1 - rho^2 over all contested allocations, at most the target, and how many triangles it took.
        Once an allocation is seen to undercut the target by itself, what it reaches is returned instead.
    """
    corners = plane.whole()
    count = len(corners)
    bound = -np.inf
    while count < _MOST_TRIANGLES:
        corners = corners[plane.is_contested(corners)]
        if len(corners) == 0:
            return target(), count
        origins = plane.origins(corners)
        supports = support(corners, origins)
        reached = float(plane.residuals(corners, origins, supports).min())
        if reached < target() - _TOLERANCE:
            return reached, count
        bounds = plane.bounds(corners, origins, supports)
        is_open = bounds < target() - _TOLERANCE
        bound = float(bounds.min())
        corners = plane.halves(plane.halves(corners[is_open]))
        count += len(corners)
    return min(bound, target()), count


def maximise(problem: Problem) -> tuple[Levels | None, dict[str, float | int]]:
    """Find the admissible allocation with the largest correlation.

    Ties go to the larger mean accuracy, among the allocations that the search came upon.

    Returns:
        The level of each group, (G,), or None when no admissible allocation has a correlation; and a lower bound of 1
        - rho^2 with the number of triangles that it took.

    Example:
        >>> from aequa_lightning.rewards.allocation.problem import build_problem
        >>> problem = build_problem([0.1, 0.2, 0.3, 0.4], {0.25: 0.3, 0.5: 0.5, 0.75: 0.6, 1.0: 0.9})
        >>> maximise(problem)[0].tolist()
        [0, 1, 2, 3]
    """
    search = _Search(problem)
    if len(problem.contributions) == 1 or problem.lowest.min() == problem.top:
        return None, {}
    search.look_at(search.two_level_cuts())
    if problem.top > 1:
        search.climb()
        bound, triangles = cover(search.plane, search.support, lambda: search.least)
    else:
        bound, triangles = search.least, 0
    return search.best_levels(), {"bound": bound, "triangles": triangles}


class _Search:
    """Allocations as cuts, one a threshold: groups from the cut on lie above it. Remembers the best one seen."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        levels = problem.curve.accuracies
        # Centred, for sums of squares around a far away origin lose digits.
        self.levels = levels - levels.mean()
        centre = np.average(problem.contributions, weights=problem.counts)
        self.plane = Plane(problem.contributions - centre, problem.counts, (self.levels[1:] + self.levels[:-1]) / 2)
        # The rules hold groups above a threshold from here on.
        self.caps = np.searchsorted(problem.lowest, np.arange(problem.top), side="right")
        weighted = problem.counts * self.plane.contributions
        self.count_above = problem.counts.sum() - np.concatenate(([0], problem.counts.cumsum()))
        self.sum_above = weighted.sum() - np.concatenate(([0.0], weighted.cumsum()))
        self.least, self.highest, self.cuts = np.inf, -np.inf, self.caps

    def held(self, cuts: Levels) -> tuple[Array, Array]:
        """Return how many participants hold each level and the sum of their contributions, both (..., M)."""
        edge = np.zeros_like(cuts[..., :1])
        edges = np.concatenate((edge, cuts, edge + len(self.plane.contributions)), axis=-1)
        return -np.diff(self.count_above[edges], axis=-1), -np.diff(self.sum_above[edges], axis=-1)

    def look_at(self, cuts: Levels) -> tuple[Array, Array]:
        """Remember the best of these allocations; return the intercept and slope of each regression."""
        counts, sums = self.held(cuts)
        total = counts @ self.levels
        mean = total / self.count_above[0]
        deviations = self.levels - mean[..., None]
        variations, products = (counts * deviations**2).sum(axis=-1), (sums * deviations).sum(axis=-1)
        beta = np.divide(products, variations, out=np.zeros_like(mean), where=variations > 0)
        values = np.where(variations > 0, 1 - beta * products / self.plane.total, np.inf)
        least = float(values.min())
        if least < self.least + _TOLERANCE:
            tied = np.flatnonzero(values.ravel() <= least + _TOLERANCE)
            index = tied[total.ravel()[tied].argmax()]
            highest = float(total.ravel()[index])
            if least < self.least - _TOLERANCE or highest > self.highest:
                self.cuts, self.highest = cuts.reshape(-1, cuts.shape[-1])[index], highest
            self.least = min(self.least, least)
        return -beta * mean, beta

    def cuts_at(self, corners: Array) -> Levels:
        """Return the cuts of the allocations that are nearest to the targets at coordinates (..., 2)."""
        alpha, beta = self.plane.lines(corners)
        thresholds = alpha[..., None] + beta[..., None] * self.plane.middles
        return np.minimum(np.searchsorted(self.plane.contributions, thresholds), self.caps)

    def support(self, corners: Array, origins: Array) -> Array:
        """Return h at the corners, (T, 3), of triangles, looking at the allocations that attain it."""
        cuts = self.cuts_at(corners)
        self.look_at(cuts)
        counts, sums = self.held(cuts)
        alpha, beta = (part[..., None] for part in self.plane.lines(corners, origins[:, None]))
        levels = (self.levels - origins[:, None])[:, None]
        return np.asarray((levels * (counts * (beta * levels + 2 * alpha) - 2 * sums)).sum(axis=-1))

    def two_level_cuts(self) -> Levels:
        """Return the cuts of every allocation with at most one threshold among the contributions."""
        groups, thresholds = len(self.plane.contributions), self.problem.top
        cuts = np.empty((thresholds, groups + 1, thresholds), dtype=np.int64)
        for threshold in range(thresholds):
            cuts[threshold, :, :threshold] = 0
            cuts[threshold, :, threshold] = np.arange(groups + 1)
            cuts[threshold, :, threshold + 1 :] = groups
        return np.minimum(cuts, self.caps)

    def climb(self) -> None:
        """Regress and re-assign in turn from many starts: a good allocation at once lets triangles be dropped early."""
        least, most = self.plane.contributions[[0, -1]]
        grid = np.linspace(least, most, _STARTS)
        corners = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
        corners = corners[corners[:, 0] < corners[:, 1]]
        for _ in range(_STEPS):
            alpha, beta = self.look_at(self.cuts_at(corners))
            corners = alpha[:, None] + beta[:, None] * self.plane.middles[[0, -1]]

    def best_levels(self) -> Levels:
        """Return the level of each group in the best allocation seen."""
        return np.asarray((np.arange(len(self.plane.contributions))[:, None] >= self.cuts).sum(axis=1))


def _clipped_ratio(numerator: Array, denominator: Array) -> Array:
    ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
    return np.asarray(np.clip(ratio, 0.0, 1.0))
