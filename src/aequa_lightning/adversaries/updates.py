"""Participants that send another update than they trained: zeros, noise, past aggregates, or a changed one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from aequa_lightning.adversaries.adversary import Adversary, View


class Nothing(Adversary):
    """Sends an update of zeros."""

    uses_aggregates = False

    @override
    def send(self, update: Tensor, view: View) -> Tensor:
        """Return zeros.

        Example:
            >>> view = View(1, torch.Generator(), torch.zeros(2), torch.zeros(2), [])
            >>> Nothing([0]).send(torch.ones(2), view)
            tensor([0., 0.])
        """
        return torch.zeros_like(update)


class NotFinite(Adversary):
    """Sends an update of NaN."""

    uses_aggregates = False

    @override
    def send(self, update: Tensor, view: View) -> Tensor:
        """Return NaN everywhere."""
        return torch.full_like(update, math.nan)


class Noise(Adversary):
    """Sends Gaussian noise.

    Args:
        participants: Numbers of the participants that cheat in this way, from 0, at least one.
        scale: Length of the noise relative to the trained update, > 0.
    """

    uses_aggregates = False

    def __init__(self, participants: Sequence[int], scale: float = 1.0) -> None:
        super().__init__(participants)
        self.scale = scale
        self._check(0 < scale < math.inf, "scale", "must be above 0 and finite")

    @override
    def send(self, update: Tensor, view: View) -> Tensor:
        """Return noise."""
        return noise_like(update, view).mul_(self.scale * length(update))


class Replay(Adversary):
    """Sends an old aggregate; zeros in the first round.

    Args:
        participants: Numbers of the participants that cheat in this way, from 0, at least one.
        age: Age of the aggregate in rounds, >= 1: 1 is the last round's. In early rounds the oldest is sent.
        mix: Length of the noise that is added, relative to the aggregate's, >= 0. The cosine between the update and
            the aggregate is ``1 / sqrt(1 + mix**2)``.
        scale: Factor of the sum, not 0.
    """

    def __init__(self, participants: Sequence[int], age: int = 1, mix: float = 0.0, scale: float = 1.0) -> None:
        super().__init__(participants)
        self.age, self.mix, self.scale = age, mix, scale
        self._check(age >= 1, "age", "must be at least 1")
        self._check(0 <= mix < math.inf, "mix", "must be at least 0 and finite")
        self._check(scale != 0 and math.isfinite(scale), "scale", "must be finite and not 0")

    @override
    def send(self, update: Tensor, view: View) -> Tensor:
        """Return an old aggregate.

        Example:
            >>> view = View(3, torch.Generator(), torch.zeros(1), torch.zeros(1), [torch.ones(1), torch.zeros(1)])
            >>> Replay([0], age=2).send(torch.zeros(1), view)
            tensor([1.])
        """
        if not view.aggregates:
            return torch.zeros_like(update)
        old = view.aggregates[-min(self.age, len(view.aggregates))]
        return old.add(noise_like(old, view), alpha=self.mix * length(old)).mul_(self.scale)


class Drift(Adversary):
    """Sends the sum of all past aggregates; zeros in the first round.

    Args:
        participants: Numbers of the participants that cheat in this way, from 0, at least one.
        scale: Length of the update relative to the trained one, > 0.
    """

    def __init__(self, participants: Sequence[int], scale: float = 1.0) -> None:
        super().__init__(participants)
        self.scale = scale
        self._check(0 < scale < math.inf, "scale", "must be above 0 and finite")

    @override
    def send(self, update: Tensor, view: View) -> Tensor:
        """Return the sum of all past aggregates, scaled to the length of the update."""
        drift = torch.zeros_like(update)
        for aggregate in view.aggregates:
            drift += aggregate
        far = length(drift)
        return drift if far == 0 else drift.mul_(self.scale * length(update) / far)


class Scale(Adversary):
    """Sends the trained update times a factor.

    Args:
        participants: Numbers of the participants that cheat in this way, from 0, at least one.
        factor: The factor, above 0.
    """

    uses_aggregates = False

    def __init__(self, participants: Sequence[int], factor: float = 10.0) -> None:
        super().__init__(participants)
        self.factor = factor
        self._check(0 < factor < math.inf, "factor", "must be above 0 and finite")

    @override
    def send(self, update: Tensor, view: View) -> Tensor:
        """Return the update times the factor."""
        return self.factor * update


class SignFlip(Adversary):
    """Sends the negative of the trained update.

    Args:
        participants: Numbers of the participants that cheat in this way, from 0, at least one.
        scale: Length of the update relative to the trained one, above 0.
    """

    uses_aggregates = False

    def __init__(self, participants: Sequence[int], scale: float = 1.0) -> None:
        super().__init__(participants)
        self.scale = scale
        self._check(0 < scale < math.inf, "scale", "must be above 0 and finite")

    @override
    def send(self, update: Tensor, view: View) -> Tensor:
        """Return the negative update."""
        return -self.scale * update


def noise_like(vector: Tensor, view: View) -> Tensor:
    """Return noise of length 1 in the shape of a vector, drawn on the CPU so that it is the same on all devices.

    Example:
        >>> view = View(1, torch.Generator().manual_seed(0), torch.zeros(9), torch.zeros(9), [])
        >>> round(float(noise_like(torch.zeros(9), view).norm()), 6)
        1.0
    """
    noise = torch.randn(vector.shape, generator=view.generator, dtype=torch.float64)
    return noise.div_(length(noise)).to(vector)


def length(vector: Tensor) -> float:
    """Return the Euclidean norm, summed in double precision.

    Example:
        >>> length(torch.tensor([3.0, 4.0]))
        5.0
    """
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
