"""Kinds of targets: classes, several labels, numbers, or a class at each position; what each kind looks like."""

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from aequa_lightning.data.preparation import IntArray

TargetKind = Literal["classes", "labels", "numbers", "positions"]
"""``classes``: int64 (samples,). ``labels``: float32 0 or 1, (samples, num_classes). ``numbers``: float32 of any shape
(samples, ...). ``positions``: int64 (samples, ...), the class of each pixel or the next token of each token; negative
ones do not count."""

# Numbers are divided into so many parts of equal size, which take the place of classes in splits and partitions.
PARTS_OF_NUMBERS = 4


def strata(targets: Tensor, kind: TargetKind) -> IntArray:
    """Return the class of each sample by which splits and partitions go.

    Args:
        targets: Targets of all samples, (samples, ...).
        kind: Their kind.

    Returns:
        int64 of shape (samples,): classes themselves; of one number a sample the quarter that it lies in; else 0.

    Example:
        >>> strata(torch.tensor([0.1, 0.9, 0.4, 0.6]), "numbers"), strata(torch.zeros(2, 3), "labels")
        (array([0, 3, 1, 2]), array([0, 0]))
    """
    if kind == "classes":
        return targets.numpy()
    values = targets.reshape(len(targets), -1).numpy()
    if kind != "numbers" or values.shape[1] != 1:
        return np.zeros(len(targets), dtype=np.int64)
    ends = np.quantile(values[:, 0], np.arange(1, PARTS_OF_NUMBERS) / PARTS_OF_NUMBERS)
    return np.searchsorted(ends, values[:, 0]).astype(np.int64)


def target_fault(targets: Tensor, samples: int, num_classes: int, kind: TargetKind) -> str | None:
    """Return what is wrong with targets, and the remedy; None where they are right.

    Args:
        targets: The targets.
        samples: Number of inputs.
        num_classes: Number of classes, labels, tokens or numbers that the data set states.
        kind: Their kind.

    Example:
        >>> target_fault(torch.tensor([[0.0, 2.0]]), 1, 2, "labels")
        'hold numbers from 0 to 2; a label is 0 or 1'
    """
    if kind == "classes":
        return _class_fault(targets, samples, num_classes)
    if targets.ndim == 0 or len(targets) != samples:
        return f"have shape {tuple(targets.shape)} for {samples} samples; give one target each"
    if kind == "positions":
        if targets.dtype != torch.int64 or targets.ndim < 2:
            return f"are {targets.dtype} of shape {tuple(targets.shape)}; give a class, int64, for each position"
        high = int(targets.max())
        return f"hold class {high}, but num_classes is {num_classes}; set num_classes" if high >= num_classes else None
    if targets.dtype != torch.float32:
        return f"are {targets.dtype}; give targets.float()"
    if not bool(torch.isfinite(targets).all()):
        return "hold NaN or infinity; mend or remove these samples"
    if kind == "labels":
        if targets.shape != (samples, num_classes):
            return f"have shape {tuple(targets.shape)}, but num_classes is {num_classes}: ({samples}, {num_classes})"
        if not bool(((targets == 0) | (targets == 1)).all()):
            return f"hold numbers from {targets.min():g} to {targets.max():g}; a label is 0 or 1"
    return None


def is_kind(kind: object) -> bool:
    """Tell whether it is the name of a kind of targets.

    Example:
        >>> is_kind("classes"), is_kind("class")
        (True, False)
    """
    return kind in get_args(TargetKind)


def _class_fault(targets: Tensor, samples: int, num_classes: int) -> str | None:
    if targets.shape != (samples,):
        remedy = f"one class each, shape ({samples},)"
        if targets.ndim == 2 and len(targets) == samples:
            remedy += "; of one-hot rows that is targets.argmax(1)"
        return f"have shape {tuple(targets.shape)} for {samples} samples; give {remedy}"
    if targets.is_floating_point():
        return (
            f"are {targets.dtype}; classes are whole numbers, so give targets.long(), or set target_kind = 'numbers' "
            "to predict numbers"
        )
    if targets.dtype != torch.int64:
        return f"are {targets.dtype}; give targets.long()"
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or high >= num_classes:
        return (
            f"hold classes from {low} to {high}, but num_classes is {num_classes}: 0 to {num_classes - 1}; number them "
            "by torch.unique(targets, return_inverse=True)[1], or set num_classes"
        )
    return None
