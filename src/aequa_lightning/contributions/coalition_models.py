"""The game of one federated round: what the model is worth when only a coalition's updates are applied.

Summed over the rounds, its Shapley values are the federated Shapley value (Wang et al., "A Principled Approach to Data
Valuation for Federated Learning", 2020). Nothing is trained again.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from aequa_lightning.contributions.values import Coalitions, Utility
from aequa_lightning.errors import InputError


def coalition_weights(coalitions: Coalitions, weights: Tensor) -> Tensor:
    """Return the weight of every update in every coalition's aggregate.

    An absent update is simply missing and the others keep their weights, so that an update of zero changes no coalition
    and is worth nothing.

    Args:
        coalitions: Who takes part, (C, N).
        weights: Aggregation weight of each update, (N,), not negative.

    Returns:
        Weights, (C, N), float64.

    Raises:
        InputError: When the shapes do not fit or a weight is negative.

    Example:
        >>> coalitions = np.array([[False, False], [True, False]])
        >>> coalition_weights(coalitions, torch.tensor([0.25, 0.75])).tolist()
        [[0.0, 0.0], [0.25, 0.0]]
    """
    if weights.shape != coalitions.shape[1:] or not (weights >= 0).all():
        raise InputError(
            f"weights of shape {tuple(weights.shape)} for {coalitions.shape[1]} updates, or negative ones."
        )
    return torch.from_numpy(coalitions).to(weights.device) * weights.double()


def round_game(
    base: Tensor,
    updates: Tensor,
    weights: Tensor,
    evaluate_models: Callable[[Tensor], Tensor],
    *,
    batch_size: int = 64,
) -> Utility:
    """Return the utility of coalitions of updates, for ``shapley_values`` and its kin.

    Args:
        base: Flat parameters at the start of the round, (P,).
        updates: Flat updates, (N, P).
        weights: Aggregation weights, (N,).
        evaluate_models: Flat parameters (C, P) -> what each is worth, (C,).
        batch_size: How many models exist at the same time, at least 1.

    Example:
        >>> game = round_game(torch.zeros(1), torch.tensor([[1.0], [3.0]]), torch.full((2,), 0.5), lambda m: m[:, 0])
        >>> game(np.array([[True, False], [True, True]])).tolist()
        [0.5, 2.0]
    """
    if updates.ndim != 2 or base.shape != updates.shape[1:]:
        raise InputError(
            f"parameters of shape {tuple(base.shape)} and updates of shape {tuple(updates.shape)} do not fit."
        )

    def utility(coalitions: Coalitions) -> NDArray[np.float64]:
        mixing = coalition_weights(coalitions, weights).to(updates)
        worth = [evaluate_models(base + rows @ updates) for rows in torch.split(mixing, batch_size)]
        return torch.cat(worth).double().cpu().numpy()

    return utility


def model_evaluator(
    module: nn.Module, inputs: Tensor, labels: Tensor, utility: Callable[[Tensor, Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return what ``round_game`` needs to evaluate models: flat parameters (C, P) -> worth (C,).

    Args:
        module: The network, in the mode in which it is to be evaluated; its own parameters are not touched.
        inputs: Validation inputs, (samples, ...).
        labels: Validation labels, (samples,).
        utility: (logits, labels) -> worth, such as ``balanced_accuracy``.

    Returns:
        A function of parameters that are flattened in the order of ``module.named_parameters()``.

    Example:
        >>> from aequa_lightning.contributions import accuracy
        >>> evaluate = model_evaluator(nn.Linear(1, 2, bias=False), torch.ones(3, 1), torch.tensor([0, 0, 1]), accuracy)
        >>> evaluate(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist() == [2 / 3, 1 / 3]
        True
    """
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]

    @torch.no_grad()
    def evaluate_models(models: Tensor) -> Tensor:
        worth = []
        for flat in models:
            pieces = torch.split(flat, sizes)
            named = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
            worth.append(utility(functional_call(module, named, (inputs,)), labels))
        return torch.stack(worth)

    return evaluate_models
