"""Multi-label classification: several classes may hold of a sample, or none."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from aequa_lightning.modules.reward import RewardModule
from aequa_lightning.modules.score import SampleScore
from aequa_lightning.modules.score_functions import macro_f1
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.modules.task import Task


class MultiLabel(Task):
    """Binary cross-entropy and macro F1; batches are pairs of inputs and labels, 0 or 1, (samples, labels)."""

    target_kind = "labels"
    hparams: Any

    @property
    def score(self) -> SampleScore:
        """F1 of each label over all samples, averaged over the labels."""
        return SampleScore(_found, name="macro F1", size=3 * self.hparams["num_classes"], of_means=macro_f1)

    @override
    def loss(self, outputs: Tensor, batch: tuple[Any, Tensor]) -> Tensor:
        """Return the mean binary cross-entropy of logits, (samples, labels)."""
        return functional.binary_cross_entropy_with_logits(outputs, batch[1].to(outputs.dtype))

    @override
    def predict(self, outputs: Tensor) -> Tensor:
        """Return the probability of each label, (samples, labels)."""
        return outputs.sigmoid()

    @staticmethod
    @override
    def output_shape(num_classes: int, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the network's output for one sample: a logit for each label."""
        return (num_classes,)


def _found(outputs: Tensor, batch: tuple[Any, Tensor]) -> Tensor:
    """Return which labels of a sample are found and hold, are found, and hold, (samples, 3 * labels)."""
    found, holds = outputs > 0, batch[1] > 0
    return torch.cat([found & holds, found, holds], 1)


class RewardMultiLabelClassifier(MultiLabel, RewardModule):
    """A participant's reward in multi-label classification; see :class:`~aequa_lightning.modules.RewardModule`."""


class SlimmableMultiLabelClassifier(MultiLabel, SlimmableModule):
    """Finds the labels that hold of a sample; its score is the mean F1 of the labels."""

    reward_class: ClassVar[type[RewardModule]] = RewardMultiLabelClassifier
