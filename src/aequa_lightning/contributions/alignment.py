"""Contributions without a single evaluation of a coalition: how an update agrees with a gradient or a class row."""

import torch
from torch import Tensor

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
        aggregate: The aggregate's, (K, F).

    Returns:
        Cosines, (N, K), float64; 0 where a row is zero.

    Example:
        >>> class_cosines(torch.tensor([[[1.0, 0.0], [0.0, -1.0]]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])).tolist()
        [[1.0, -1.0]]
    """
    if updates.ndim != 3 or aggregate.shape != updates.shape[1:]:
        raise InputError(
            f"updates of shape {tuple(updates.shape)} and an aggregate of shape {tuple(aggregate.shape)} do not fit; "
            "they are (N, K, F) and (K, F)."
        )
    updates, aggregate = updates.double(), aggregate.double()
    products = (updates * aggregate).sum(dim=-1)
    norms = updates.norm(dim=-1) * aggregate.norm(dim=-1)
    return torch.where(norms > 0, products / norms, 0.0).clamp(-1, 1)
