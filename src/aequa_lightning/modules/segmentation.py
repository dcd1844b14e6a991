"""Semantic segmentation: a class for each pixel."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from aequa_lightning.modules.reward import RewardModule
from aequa_lightning.modules.score import SampleScore
from aequa_lightning.modules.score_functions import mean_iou
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.modules.task import Task

# Pixels of this class do not count, as in `torch.nn.functional.cross_entropy`.
IGNORED = -100


class Segmentation(Task):
    """Cross-entropy and mean IoU; batches are pairs of inputs and classes, int64 of shape (samples, height, width)."""

    target_kind = "positions"
    hparams: Any

    @property
    def score(self) -> SampleScore:
        """Intersection over union of each class over all pixels, averaged over the classes."""
        count = self.hparams["num_classes"]
        return SampleScore(partial(_overlaps, count=count), name="mean IoU", size=2 * count, of_means=mean_iou)

    @override
    def loss(self, outputs: Tensor, batch: tuple[Any, Tensor]) -> Tensor:
        """Return the mean cross-entropy over pixels of logits, (samples, classes, height, width)."""
        return functional.cross_entropy(outputs, batch[1], ignore_index=IGNORED)

    @override
    def predict(self, outputs: Tensor) -> Tensor:
        """Return the class of each pixel, (samples, height, width)."""
        return outputs.argmax(1)

    @staticmethod
    @override
    def output_shape(num_classes: int, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the network's output for one sample: a logit for each class and pixel."""
        return (num_classes, *input_shape[1:])


def _overlaps(outputs: Tensor, batch: tuple[Any, Tensor], *, count: int) -> Tensor:
    """Return the pixels of each class in prediction and target, and in one of them, (samples, 2 * count)."""
    targets, classes = batch[1].flatten(1)[..., None], torch.arange(count, device=outputs.device)
    counts = targets != IGNORED
    predicted = (outputs.argmax(1).flatten(1)[..., None] == classes) & counts
    held = targets == classes
    return torch.cat([(predicted & held).sum(1), (predicted | held).sum(1)], 1)


class RewardSegmenter(Segmentation, RewardModule):
    """A participant's reward in segmentation; see :class:`~aequa_lightning.modules.RewardModule`."""


class SlimmableSegmenter(Segmentation, SlimmableModule):
    """Finds the class of each pixel; its score is the mean IoU of the classes."""

    reward_class: ClassVar[type[RewardModule]] = RewardSegmenter
    can_distil: ClassVar[bool] = True
