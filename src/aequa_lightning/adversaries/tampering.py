"""Participants that train and then change what they send."""

import math
from collections.abc import Sequence

from torch import Tensor
from typing_extensions import override

from aequa_lightning.adversaries.adversary import Adversary, View


class Scale(Adversary):
    """Sends what was trained, longer or shorter than it is.

    Args:
        participants: Numbers of the participants that cheat in this way, from 0, at least one.
        factor: By which the update is multiplied, above 0.
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
    """Sends the opposite of what was trained.

    Args:
        participants: Numbers of the participants that cheat in this way, from 0, at least one.
        scale: Length of what is sent relative to what was trained, above 0.
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
