"""What a width costs, and the largest width that a budget allows."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable.model import SlimmableModel


@dataclass(frozen=True)
class Cost:
    """The cost of one width.

    Attributes:
        parameters: Number of parameters.
        multiply_adds: Those of convolutions, linear layers and attention, for the example input.
        bytes: Size of parameters and buffers.
    """

    parameters: int
    multiply_adds: int
    bytes: int


def cost(model: SlimmableModel, width: float) -> Cost:
    """Return what a width costs.

    Args:
        model: A slimmable model.
        width: Share of the channels, in the model's range.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
        >>> cost(SlimmableModel(net, [1, 0.5], torch.zeros(1, 4)), 0.5)
        Cost(parameters=43, multiply_adds=35, bytes=172)
    """
    network = model.extract(width, fresh_statistics=True).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(model.example_input.to(next(network.parameters()).device))
    tensors = [*network.parameters(), *network.buffers()]
    return Cost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
        bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    )


def width_for(model: SlimmableModel, *, measure: str, budget: float) -> float:
    """Return the largest width whose cost is within a budget.

    Args:
        model: A slimmable model.
        measure: A field of :class:`Cost`: ``"parameters"``, ``"multiply_adds"`` or ``"bytes"``.
        budget: The most it may cost.

    Raises:
        InputError: When the measure is unknown or even the smallest width costs more.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
        >>> width_for(SlimmableModel(net, [1, 0.2], torch.zeros(1, 4)), measure="parameters", budget=50)
        0.5
    """
    if measure not in Cost.__dataclass_fields__:
        raise InputError(f"measure: {measure!r} is unknown; choose one of {', '.join(Cost.__dataclass_fields__)}")
    widths = model.distinct_widths()
    if getattr(cost(model, widths[0]), measure) > budget:
        least = getattr(cost(model, widths[0]), measure)
        raise InputError(f"budget: {budget} {measure} is less than the {least} of the smallest width {widths[0]:g}")
    low, high = 0, len(widths) - 1  # widths[low] fits; costs grow with the width
    while low < high:
        middle = (low + high + 1) // 2
        if getattr(cost(model, widths[middle]), measure) <= budget:
            low = middle
        else:
            high = middle - 1
    return widths[low]
