"""The trainable parameters of a width: out of the vector of all, and back into it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from aequa_lightning.slimmable import SlicePlan, SlimmableModel, Width


class WidthSlices:
    """Cuts the flat vector of trainable parameters to widths.

    Args:
        network: The shared model; the vector holds its trainable parameters in their order.

    Example:
        >>> layers = torch.nn.Sequential(torch.nn.Linear(1, 4, bias=False), torch.nn.Linear(4, 1, bias=False))
        >>> slices = WidthSlices(SlimmableModel(layers, [1, 0.5], torch.zeros(1, 1)))
        >>> part = slices.take(torch.arange(8.0), 0.5)
        >>> part["1.weight"], slices.put(part, 0.5).tolist()
        (tensor([[4., 5.]]), [0.0, 1.0, 0.0, 0.0, 4.0, 5.0, 0.0, 0.0])
    """

    def __init__(self, network: SlimmableModel) -> None:
        self._network = network
        self._shapes = {
            name: parameter.shape for name, parameter in network.full.named_parameters() if parameter.requires_grad
        }
        self._sizes = [shape.numel() for shape in self._shapes.values()]

    def take(self, vector: Tensor, width: Width) -> dict[str, Tensor]:
        """Return copies of a width's part of each parameter, by name.

        Args:
            vector: All trainable parameters, (P,).
            width: In [smallest width, 1].
        """
        return self._plan(width).extract(self._named(vector))

    def put(self, parts: Mapping[str, Tensor], width: Width) -> Tensor:
        """Return a vector that holds a width's parts in their places and zeros elsewhere, (P,).

        Args:
            parts: As :meth:`take` returns them.
            width: In [smallest width, 1].
        """
        vector = torch.zeros(sum(self._sizes), dtype=next(iter(parts.values())).dtype)
        self._plan(width).put(self._named(vector), parts)
        return vector

    def _named(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the parameters as views of the vector."""
        parts = zip(self._shapes.items(), vector.split(self._sizes), strict=True)
        return {name: part.view(shape) for (name, shape), part in parts}

    def _plan(self, width: Width) -> SlicePlan:
        plan = self._network.plan(width)
        return SlicePlan(
            {name: plan.indices[name] for name in self._shapes}, {name: plan.shapes[name] for name in self._shapes}
        )
