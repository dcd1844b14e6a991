"""Objectives that are a least squares fit in disguise, and that one sweep therefore minimises exactly.

Let the targets of the received accuracies x be o_i + tau s_i with a free number tau, and D(tau, x) the squared
distance of x to them. Every objective here is f(x) = min over tau of g(tau, D(tau, x)) with a g that rises with D.
The minima over tau and over x may be exchanged, and for a given tau the best x is known: each x_i is the level
nearest to its target.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aequa_lightning.errors import InputError

Array = NDArray[np.float64]
SPREAD_OBJECTIVES = ("cv", "spread_minus_gain", "variance", "lexicographic")

# A scale (for the spread: a mean gain) below the first counts as none, and so does an angle whose squared sine is above
# the second: there, rounding would decide.
_LEAST_SCALE = 1e-6
_RIGHT_ANGLE = 1 - 1e-9


@dataclass(frozen=True, eq=False)
class TargetObjective:
    """An objective of the distance to the best of a family of targets. To be minimised.

    With d_i = x_i - o_i, L = sum s_i d_i, Q = sum d_i^2 and S = sum s_i^2, the distance is D = R + S (tau - m)^2 for
    the least squares fit m = L / S and its residual R = Q - L^2 / S. For s = 1 they are the mean and N times the
    variance.

    Attributes:
        offsets: o, one number per participant or group of equal ones.
        scales: s, not negative, likewise.
        norm: S, over all participants.
        best_tau: (m, R) -> the tau at which g is least.
        of_distance: (tau, D) -> g, rising with D; g(tau, 0) never rises with tau.
    """

    offsets: Array
    scales: Array
    norm: float
    best_tau: Callable[[Array, Array], Array]
    of_distance: Callable[[Array, Array], Array]

    def of_sums(self, linear: Array, quadratic: Array) -> Array:
        """Return f from the sums L and Q, vectorised. Where x nearly meets its targets this loses half the digits."""
        fit = linear / self.norm
        return self._of_fit(fit, quadratic - linear * fit)

    def of_accuracies(self, accuracies: Array, counts: NDArray[np.int64]) -> float:
        """Return f from the accuracies themselves and how many participants receive each, (G,), to full precision."""
        gains = accuracies - self.offsets
        fit = counts * self.scales @ gains / self.norm
        return float(self._of_fit(fit, counts @ (gains - fit * self.scales) ** 2))

    def _of_fit(self, fit: Array, residual: Array) -> Array:
        tau = self.best_tau(fit, residual)
        return self.of_distance(tau, residual + self.norm * (tau - fit) ** 2)

    def least_between(self, left: Array, right: Array, at_left: Array, at_right: Array) -> Array:
        """Bound f from below for all x whose best tau lies between two others, vectorised.

        The least distance over all x, less S tau^2, is concave in tau, hence between two taus at least linear.

        Args:
            left: Lower tau.
            right: Upper tau.
            at_left: The least distance of any x at the lower tau.
            at_right: The same at the upper tau.
        """

        def distance(tau: Array) -> Array:
            share = (tau - left) / (right - left)
            return (1 - share) * at_left + share * at_right - self.norm * (tau - left) * (right - tau)

        fit = (at_left - at_right) / (2 * self.norm * (right - left)) + (left + right) / 2
        return self._least(distance, fit, at_left - self.norm * (left - fit) ** 2, left, right)

    def least_beyond(self, tau: float, distance: float, extreme: float, *, upwards: bool) -> float:
        """Bound f from below for all x whose best tau lies beyond some tau, where the least or the largest L is known.

        Args:
            tau: Where the search for cuts ended.
            distance: The least distance of any x there.
            extreme: The largest L of any x if upwards, else the least.
            upwards: Whether larger tau are meant.
        """
        fit = np.array(extreme / self.norm)
        residual = distance - self.norm * (tau - fit) ** 2
        left, right = (tau, np.inf) if upwards else (-np.inf, tau)
        ends = np.array(left), np.array(right)
        return float(self._least(lambda at: residual + self.norm * (at - fit) ** 2, fit, residual, *ends))

    def _least(
        self, distance: Callable[[Array], Array], fit: Array, residual: Array, left: Array, right: Array
    ) -> Array:
        """Return the least g over an interval of tau, for a distance of residual + S (tau - fit)^2, at least 0."""
        stationary = np.clip(self.best_tau(fit, residual), left, right)
        candidates = [
            stationary,
            np.where(np.isinf(left), stationary, left),
            np.where(np.isinf(right), stationary, right),
        ]
        least = np.min([self.of_distance(tau, distance(tau)) for tau in candidates], axis=0)
        # Where the bound of the distance is negative, take 0 for it: g(tau, 0) is least at the upper end of there.
        is_negative = residual + self.norm * (np.clip(fit, left, right) - fit) ** 2 < 0
        end = np.clip(fit + np.sqrt(np.maximum(-residual, 0.0) / self.norm), left, right)
        at_end = self.of_distance(end, np.zeros_like(end))
        return np.asarray(np.where(is_negative, np.minimum(least, at_end), least))


def spread_objective(name: str, contributions: Array, count: int, *, slope: float, lam: float) -> TargetObjective:
    """Return an objective of the mean m and the standard deviation s of the gains x_i - slope c_i.

    ``cv`` is s / m (infinite unless m > 0), ``spread_minus_gain`` s - lam m, ``variance`` s^2 - lam m and
    ``lexicographic`` s. The targets are equal gains of tau.

    Args:
        name: One of ``SPREAD_OBJECTIVES``.
        contributions: Contributions in accuracy units; one per participant or group of equal ones.
        count: Number of participants.
        slope: How much more accuracy one more unit of contribution deserves.
        lam: Weight of the mean gain, at least 0.

    Example:
        >>> objective = spread_objective("cv", np.array([0.2, 0.4]), 2, slope=1.0, lam=0.0)
        >>> round(objective.of_accuracies(np.array([0.8, 0.8]), np.ones(2, dtype=int)), 6)  # deviation 0.1, mean 0.5
        0.2
    """
    if name not in SPREAD_OBJECTIVES:
        raise InputError(f"objective {name!r} is unknown; choose from {', '.join(SPREAD_OBJECTIVES)}.")
    weight = {"spread_minus_gain": lam, "variance": lam / 2}.get(name, 0.0)

    def best_tau(mean: Array, residual: Array) -> Array:
        if name == "spread_minus_gain":
            return np.asarray(mean + weight * np.sqrt(np.maximum(residual, 0.0) / count))
        return np.asarray(mean + weight)

    def of_distance(tau: Array, distance: Array) -> Array:
        square = np.maximum(distance, 0.0) / count
        if name == "variance":
            return np.asarray(square - 2 * weight * tau + weight**2)
        return np.asarray(np.sqrt((1 + weight**2) * square) - weight * tau)

    offsets, scales = slope * contributions, np.ones_like(contributions)
    if name == "cv":
        return angle_objective(offsets, scales, count)
    return TargetObjective(offsets, scales, count, best_tau, of_distance)


def angle_objective(offsets: Array, scales: Array, norm: float) -> TargetObjective:
    """Return the tangent of the angle between the gains d and the scales s, infinite from 90 degrees on.

    Its squared sine is the least D / (S tau^2) over tau > 0. For s = 1 it is the standard deviation over the mean.

    Args:
        offsets: o, (G,).
        scales: s, not negative, (G,).
        norm: Sum of s squared over all participants.

    Example:
        >>> objective = angle_objective(np.zeros(2), np.array([3.0, 4.0]), 25.0)
        >>> objective.of_accuracies(np.array([0.6, 0.8]), np.ones(2, dtype=int)) < 1e-12
        True
    """

    def best_tau(fit: Array, residual: Array) -> Array:
        tau = np.divide(residual, norm * fit, out=np.zeros(np.shape(fit)), where=fit > 0) + fit
        return np.maximum(tau, _LEAST_SCALE)

    def of_distance(tau: Array, distance: Array) -> Array:
        square = np.divide(
            np.maximum(distance, 0.0) / norm, tau**2, out=np.ones(np.shape(tau)), where=tau >= _LEAST_SCALE
        )
        acute = square < _RIGHT_ANGLE
        return np.asarray(np.sqrt(np.divide(square, 1 - square, out=np.full(np.shape(tau), np.inf), where=acute)))

    return TargetObjective(offsets, scales, norm, best_tau, of_distance)
