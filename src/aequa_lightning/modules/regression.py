"""Regression: one number a sample or several, by the squared error."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from aequa_lightning.modules.reward import RewardModule
from aequa_lightning.modules.score import SampleScore
from aequa_lightning.modules.score_functions import r_squared
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.modules.task import Task


class Regression(Task):
    """Mean squared error and R^2; batches are pairs of inputs and numbers, (samples,) or (samples, numbers)."""

    target_kind = "numbers"
    hparams: Any

    @property
    def score(self) -> SampleScore:
        """R^2 of all samples together, averaged over the numbers to predict, at least 0."""
        count = self.hparams["num_classes"]
        return SampleScore(partial(_errors, count=count), name="R^2", size=3 * count, of_means=r_squared)

    @override
    def loss(self, outputs: Tensor, batch: tuple[Any, Tensor]) -> Tensor:
        """Return the mean squared error of outputs, (samples, numbers)."""
        return (outputs.reshape(batch[1].shape) - batch[1]).square().mean()

    @staticmethod
    @override
    def output_shape(num_classes: int, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the network's output for one sample: the numbers."""
        return (num_classes,)


def _errors(outputs: Tensor, batch: tuple[Any, Tensor], *, count: int) -> Tensor:
    """Return squared errors, targets and squared targets of each sample, (samples, 3 * count)."""
    targets = batch[1].reshape(-1, count).double()
    return torch.cat([(outputs.reshape(-1, count).double() - targets).square(), targets, targets.square()], 1)


class RewardRegressor(Regression, RewardModule):
    """A participant's reward in regression; see :class:`~aequa_lightning.modules.RewardModule`."""


class SlimmableRegressor(Regression, SlimmableModule):
    """Predicts numbers; its score is R^2, at least 0."""

    reward_class: ClassVar[type[RewardModule]] = RewardRegressor
