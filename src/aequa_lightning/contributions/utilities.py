"""What a model is worth on validation data, from its logits. Leading dimensions are models: (..., samples, classes)."""

import torch
from torch import Tensor

from aequa_lightning.errors import InputError


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of samples whose largest logit is the label's.

    Args:
        logits: Logits, (..., samples, classes).
        labels: Class indices, (samples,).

    Returns:
        One accuracy per model, (...), float64.

    Example:
        >>> accuracy(torch.tensor([[2.0, 1.0], [3.0, 0.0]]), torch.tensor([0, 1])).item()
        0.5
    """
    _check(logits, labels)
    return (logits.argmax(dim=-1) == labels).double().mean(dim=-1)


def balanced_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over classes of the accuracy within the class, over classes that occur in the labels.

    Accuracy alone hardly sees the sole owner of a rare class; this does.

    Example:
        >>> logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> balanced_accuracy(logits, torch.tensor([0, 0, 1, 1])).item()
        0.75
    """
    _check(logits, labels)
    correct = (logits.argmax(dim=-1) == labels).double()
    classes = torch.nn.functional.one_hot(labels, logits.shape[-1]).double()
    counts = classes.sum(dim=0)
    return (correct @ classes)[..., counts > 0].div(counts[counts > 0]).mean(dim=-1)


def negative_log_loss(logits: Tensor, labels: Tensor, *, least_probability: float = 1e-7) -> Tensor:
    """Return the mean log probability of the labels, which is at most 0.

    Args:
        logits: Logits, (..., samples, classes).
        labels: Class indices, (samples,).
        least_probability: Probabilities are clipped here, so that one confident error does not outweigh everything.

    Example:
        >>> round(negative_log_loss(torch.zeros(3, 4), torch.tensor([0, 1, 2])).exp().item(), 6)
        0.25
    """
    _check(logits, labels)
    chances = logits.double().log_softmax(dim=-1)
    chosen = chances.gather(-1, labels.expand(chances.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    return chosen.clamp(min=float(torch.tensor(least_probability).log())).mean(dim=-1)


def _check(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim < 2 or labels.shape != logits.shape[-2:-1] or len(labels) == 0:
        raise InputError(
            f"logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)} do not fit; "
            "they are (..., samples, classes) and (samples,), with at least one sample."
        )
