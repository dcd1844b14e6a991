"""Participants with false labels, or with another participant's data."""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from aequa_lightning.adversaries.adversary import Adversary
from aequa_lightning.data import CollaborativeData
from aequa_lightning.errors import InputError


class FlippedLabels(Adversary):
    """Labels class c as class K - 1 - c, alone and in the rounds.

    Args:
        participants: Numbers of the participants that cheat in this way, from 0, at least one.
        share: Share of the samples with a false label, the first ones, in (0, 1].
    """

    uses_aggregates = False

    def __init__(self, participants: Sequence[int], share: float = 1.0) -> None:
        super().__init__(participants)
        self.share = share
        self._check(0 < share <= 1, "share", "must lie in (0, 1]")

    @override
    def samples(self, data: CollaborativeData, participant: int) -> tuple[Tensor, Tensor]:
        """Return the participant's inputs with false labels."""
        if data.target_kind != "classes":
            raise InputError(
                f"trainer.adversaries: {type(self).__name__} changes classes, but targets are {data.target_kind}; "
                "choose another kind of adversary."
            )
        inputs, targets = super().samples(data, participant)
        count = round(self.share * len(targets))
        return inputs, torch.cat([data.num_classes - 1 - targets[:count], targets[count:]])


class SharedData(Adversary):
    """Trains on the data of another participant, in its own order.

    Args:
        participants: Numbers of the participants that cheat in this way, from 0, at least one.
        of: Number of the honest participant whose data they use.
    """

    uses_aggregates = False

    def __init__(self, participants: Sequence[int], of: int = 0) -> None:
        super().__init__(participants)
        self.of = of
        self._check(of >= 0, "of", "must be a number from 0")

    @override
    def samples(self, data: CollaborativeData, participant: int) -> tuple[Tensor, Tensor]:
        """Return the other participant's samples."""
        return super().samples(data, self.of)

    @override
    def others(self) -> Sequence[int]:
        """Return the participant whose data they use."""
        return (self.of,)


class Clone(SharedData):
    """Sends what another participant sends: the same data, trained with the same random numbers.

    Args:
        participants: Numbers of the participants that cheat in this way, from 0, at least one.
        of: Number of the honest participant that is cloned.
    """

    @override
    def trains_as(self, participant: int) -> int:
        """Return the participant that is cloned."""
        return self.of
