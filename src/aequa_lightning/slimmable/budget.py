"""Parameters, multiply-adds and bytes of a width, and the largest width within a budget."""

from bisect import bisect_right
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable.model import SlimmableModel
from aequa_lightning.slimmable.widths import Width


@dataclass(frozen=True)
class Cost:
    """The cost of one width.

    Attributes:
        parameters: Number of parameters.
        multiply_adds: Multiply-adds of convolutions, linear layers, attention and recurrences, for the example input.
        bytes: Size of parameters and buffers.
    """

    parameters: int
    multiply_adds: int
    bytes: int


def cost(model: SlimmableModel, width: Width) -> Cost:
    """Return the cost of a width.

    Args:
        model: A slimmable model.
        width: Share of the channels, or of each layer's, in the model's range.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
        >>> cost(SlimmableModel(net, [1, 0.5], torch.zeros(1, 4)), 0.5)
        Cost(parameters=43, multiply_adds=35, bytes=172)
    """
    network = model.extract(width, fresh_statistics=True).eval()
    tensors = [*network.parameters(), *network.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return Cost(sum(parameter.numel() for parameter in network.parameters()), _multiply_adds(network, model), size)


def _multiply_adds(network: nn.Module, model: SlimmableModel) -> int:
    x = model.example_input.double() if model.example_input.is_floating_point() else model.example_input
    # In double precision and with gradients, attention and recurrences avoid the fused paths, which go uncounted.
    network.cpu().double().requires_grad_()
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(x)
    return int(counter.get_total_flops()) // 2


def width_for(model: SlimmableModel, *, measure: str, budget: float, per_layer: bool = False) -> Width:
    """Return the largest width whose cost is within a budget.

    Args:
        model: A slimmable model.
        measure: A field of :class:`Cost`: ``"parameters"``, ``"multiply_adds"`` or ``"bytes"``.
        budget: The most it may cost.
        per_layer: Spend the rest of the budget on widening one layer after another to the next larger width.

    Returns:
        The share of the channels; with ``per_layer`` the share of each layer's, where that is larger.

    Raises:
        InputError: When the measure is unknown or even the smallest width costs more.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
        >>> width_for(SlimmableModel(net, [1, 0.2], torch.zeros(1, 4)), measure="parameters", budget=50)
        0.5
    """
    if measure not in Cost.__dataclass_fields__:
        raise InputError(f"measure: {measure!r} is unknown; choose one of {', '.join(Cost.__dataclass_fields__)}")

    def spent(width: Width) -> float:
        return float(getattr(cost(model, width), measure))

    widths = model.distinct_widths()
    if spent(widths[0]) > budget:
        raise InputError(
            f"budget: {budget} {measure} is less than the {spent(widths[0]):.0f} of the smallest width {widths[0]:g}"
        )
    # Costs grow with the width, and with every layer's.
    fit = bisect_right(widths, budget, key=spent)
    if not per_layer or fit == len(widths):
        return widths[fit - 1]
    chain: list[Width] = [widths[fit - 1], *model.widths_between(widths[fit - 1], widths[fit]).values()]
    return chain[bisect_right(chain, budget, key=spent) - 1]
