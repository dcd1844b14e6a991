"""What share of the reward a contribution deserves: the middle part of a mechanism."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aequa_lightning.errors import InputError


class Target(ABC):
    """Maps contributions to shares in [0, 1]; unless said otherwise the top contributor's is 1."""

    @abstractmethod
    def shares(self, contributions: Sequence[float], *, round: int, likeness: Sequence[float]) -> NDArray[np.float64]:
        """Return the share of each participant, (N,).

        Args:
            contributions: By the mechanism's measure, (N,); negative ones count as 0.
            round: Number of the round, from 1.
            likeness: How alike each participant's losses are to those on the validation part, relative to the most
                alike, in [0, 1], (N,); see :func:`~aequa_lightning.contributions.loss_likeness`. Ones where no measure
                takes it.
        """


@dataclass(frozen=True)
class Everything(Target):
    """The same for all."""

    def shares(self, contributions: Sequence[float], *, round: int, likeness: Sequence[float]) -> NDArray[np.float64]:
        """Return ones."""
        return np.ones(len(contributions))


@dataclass(frozen=True)
class Relative(Target):
    """``(c_i / c_max) ** power``: the ratio to the top contributor.

    Args:
        power: 1 is proportional, 0 the same for all (the rho of Sim et al., ICML 2020), >= 0.

    Raises:
        InputError: The power is negative.
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        if not self.power >= 0:
            raise InputError(f"trainer.mechanism.target.power={self.power} must be at least 0.")

    def shares(self, contributions: Sequence[float], *, round: int, likeness: Sequence[float]) -> NDArray[np.float64]:
        """Return the ratios, raised to the power."""
        ratios: NDArray[np.float64] = relative(contributions) ** self.power
        return ratios


@dataclass(frozen=True)
class Portion(Target):
    """``c_i / sum_j c_j``: the part of all contributions, which is 1 for nobody but a single contributor."""

    def shares(self, contributions: Sequence[float], *, round: int, likeness: Sequence[float]) -> NDArray[np.float64]:
        """Return the parts; equal ones where nobody contributed."""
        ratios = relative(contributions)
        parts: NDArray[np.float64] = ratios / ratios.sum()
        return parts


@dataclass(frozen=True)
class Tanh(Target):
    """``tanh(beta c_i) / max_j tanh(beta c_j)`` (CGSV, Xu et al., NeurIPS 2021, eq. 6).

    Args:
        beta: Altruism: large values bring everybody close to 1, small ones give ratios; > 0.
        times_likeness: Whether the shares are multiplied by the likeness of losses, as FedAVE does.

    Raises:
        InputError: Beta is not positive.
    """

    beta: float = 1.0
    times_likeness: bool = False

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise InputError(f"trainer.mechanism.beta={self.beta} must be above 0.")

    def shares(self, contributions: Sequence[float], *, round: int, likeness: Sequence[float]) -> NDArray[np.float64]:
        """Return the squashed ratios."""
        scores = np.maximum(np.asarray(contributions, dtype=np.float64), 0)
        ratios = relative(np.tanh(self.beta * scores))
        return ratios * np.asarray(likeness, dtype=np.float64) if self.times_likeness else ratios


@dataclass(frozen=True)
class Surviving(Target):
    """Ratios, but nothing for whoever falls below a threshold once the first rounds are over.

    RFFL and CFFL drop participants for good, which is part of the measures ``rffl`` and ``cffl``; here they are
    compared again in every round, by any measure.

    Args:
        threshold: Whoever has less than this part of an equal share of all contributions receives nothing, in [0, 1).
        after: Rounds in which nobody is left out, >= 0.

    Raises:
        InputError: A value is out of range.
    """

    threshold: float = 1 / 3
    after: int = 10

    def __post_init__(self) -> None:
        if not (0 <= self.threshold < 1 and self.after >= 0):
            raise InputError(f"threshold={self.threshold} must lie in [0, 1), after={self.after} at or above 0.")

    def shares(self, contributions: Sequence[float], *, round: int, likeness: Sequence[float]) -> NDArray[np.float64]:
        """Return the ratios of those who stay, 0 for the others."""
        brought = np.maximum(np.asarray(contributions, dtype=np.float64), 0)
        if round > self.after and brought.sum() > 0:
            brought = np.where(brought < self.threshold * brought.mean(), 0.0, brought)
        return relative(brought)


def relative(values: ArrayLike) -> NDArray[np.float64]:
    """Return values divided by the largest; ones where none is positive, so that nobody is paid before others.

    Example:
        >>> relative([1.0, 4.0, -2.0]).tolist(), relative([0.0, 0.0]).tolist()
        ([0.25, 1.0, 0.0], [1.0, 1.0])
    """
    positive = np.maximum(np.asarray(values, dtype=np.float64), 0)
    top = positive.max()
    ratios: NDArray[np.float64] = positive / top if top > 0 else np.ones_like(positive)
    return ratios
