"""Measures of the model that each participant has trained: its accuracy (Rank), or accuracy by likeness (FedAVE)."""

from functools import partial

from torch import Tensor

from aequa_lightning.contributions.accumulate import MovingAverage
from aequa_lightning.contributions.cosine import CosineReputation
from aequa_lightning.contributions.measure import Measure, unchanged


def accuracies_by_likeness(accuracies: Tensor, likeness: Tensor) -> Tensor:
    """Return accuracies times squared likeness (FedAVE, Wang et al., 2024).

    Args:
        accuracies: Validation accuracy in [0, 1] of each player's own model, (G,).
        likeness: How alike losses on its data and on the validation part are, in [0, 1], (G,); see
            :func:`~aequa_lightning.contributions.losses.loss_likeness`.

    Example:
        >>> import torch
        >>> accuracies_by_likeness(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.5])).tolist()
        [0.5, 0.125]
    """
    return accuracies * likeness**2


FEDAVE = Measure(
    "fedave",
    "reputation by accuracy and by how alike losses are to the server’s (FedAVE)",
    ("own_accuracies", "likeness"),
    accuracies_by_likeness,
    partial(CosineReputation, from_first=True),
)
LOCAL_ACCURACY = Measure(
    "local_accuracy",
    "the accuracy of each one’s own model after the last round’s training",
    ("own_accuracies",),
    unchanged,
    partial(MovingAverage, decay=0.0),
)
