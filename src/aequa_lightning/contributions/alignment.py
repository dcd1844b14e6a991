"""Contributions by agreement: of an update with the gradient of the validation loss, or with each class's aggregate."""

import torch
from torch import Tensor

from aequa_lightning.contributions.accumulate import MovingAverage, RunningSum
from aequa_lightning.contributions.cosine import cosines, earlier_weights
from aequa_lightning.contributions.measure import Measure
from aequa_lightning.errors import InputError


def gradient_alignment(products: Tensor, weights: Tensor) -> Tensor:
    """Return the first-order drop of the validation loss that each weighted update brings (DIG-FL).

    Over the rounds these add up to the estimate of the Shapley value in Wang et al., "Efficient Participant
    Contribution Evaluation for Horizontal and Vertical Federated Learning", ICDE 2022. Being linear it never sees
    redundancy.

    Args:
        products: Inner product of each update with the gradient of the validation loss at the round's start, (N,).
        weights: Aggregation weight of each update, (N,).

    Returns:
        Contributions, (N,), float64; positive where the loss falls.

    Example:
        >>> import torch
        >>> gradient = torch.tensor([1.0, -1.0])
        >>> gradient_alignment(torch.tensor([[-1.0, 0.0], [0.0, -2.0]]) @ gradient, torch.tensor([0.5, 0.5])).tolist()
        [0.5, -1.0]
    """
    if products.ndim != 1 or products.shape != weights.shape:
        raise InputError(
            f"products of shape {tuple(products.shape)} and weights of shape {tuple(weights.shape)} differ."
        )
    return -weights.double() * products.double()


def class_cosines(updates: Tensor, aggregate: Tensor) -> Tensor:
    """Return, class by class, the cosine of a participant's last-layer rows with the aggregate's (ShapFed).

    Source: Tastan et al., "Redefining Contributions: Shapley-Driven Federated Learning", IJCAI 2024. Their mean over
    the classes is the participant's contribution of the round, usually smoothed by a ``MovingAverage`` with decay
    0.9. Despite the name, only the full coalition is looked at.

    Args:
        updates: Update of the last layer, one row per class (weights and bias), (N, K, F).
        aggregate: The aggregate's, (K, F), or what each participant holds of it, (N, K, F).

    Returns:
        Cosines, (N, K), float64; 0 where a row is zero.

    Example:
        >>> import torch
        >>> class_cosines(torch.tensor([[[1.0, 0.0], [0.0, -1.0]]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])).tolist()
        [[1.0, -1.0]]
    """
    if updates.ndim != 3 or aggregate.shape[-2:] != updates.shape[1:]:
        raise InputError(
            f"updates of shape {tuple(updates.shape)} and an aggregate of shape {tuple(aggregate.shape)} do not fit; "
            "they are (N, K, F) and (K, F)."
        )
    updates, aggregate = updates.double(), aggregate.double()
    return cosines((updates * aggregate).sum(dim=-1), updates.square().sum(dim=-1), aggregate.square().sum(dim=-1))


def cosines_with_class_mean(earlier: Tensor, class_rows: Tensor, held: Tensor) -> Tensor:
    """Return the mean over classes of the cosine with the mean of all updates, weighted by earlier values (ShapFed).

    Each entry is averaged over those who hold it, and each update is compared over what it holds.

    Args:
        earlier: Values before the round, (N,); negative ones count as 0, and all alike where none is positive.
        class_rows: Update of the last layer, one row per class, (N, K, F), zero where it is not held.
        held: Which entries each holds, bool of shape (N, K, F).

    Returns:
        (N,), float64.

    Example:
        >>> import torch
        >>> rows, held = torch.tensor([[[1.0], [1.0]], [[0.5], [-3.0]]]), torch.ones(2, 2, 1, dtype=torch.bool)
        >>> cosines_with_class_mean(torch.zeros(2), rows, held).tolist()
        [0.0, 1.0]
        >>> cosines_with_class_mean(torch.tensor([0.9, 0.1]), rows, held).tolist()
        [1.0, 0.0]
    """
    positive = earlier.double().clamp(min=0)
    weights = earlier_weights(positive, torch.ones_like(positive))[:, None, None]
    covered = (weights * held).sum(dim=0)
    mean = torch.where(covered > 0, (weights * class_rows.double()).sum(dim=0) / covered, 0.0)
    return class_cosines(class_rows, mean * held).mean(dim=1)


ALIGNMENT = Measure(
    "alignment",
    "how far each update lowers the validation loss (DIG-FL)",
    ("gradient_products", "weights"),
    gradient_alignment,
    RunningSum,
)
CLASS_COSINE = Measure(
    "class_cosine",
    "how far each update points where the mean by earlier values does, class by class on the last layer (ShapFed)",
    ("earlier", "class_rows", "held_class_rows"),
    cosines_with_class_mean,
    MovingAverage,
)
