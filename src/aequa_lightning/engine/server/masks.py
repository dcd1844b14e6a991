"""Which parameters each width holds, and the total weight of the participants that hold each of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aequa_lightning.slimmable import SlimmableModel, Width


class WidthMasks:
    """Masks of the flat parameter vector, one for each width in use.

    A participant of width p receives the vector with zeros outside its sub-network. Its forward and backward passes
    read and change only that part, so withheld parameters are neither in its memory nor in its update.

    Args:
        network: The shared model; the vector holds its trainable parameters in their order.
        device: Device of the vector.
    """

    def __init__(self, network: SlimmableModel, device: torch.device) -> None:
        self._network, self._device = network, device
        self._masks: dict[float, Tensor] = {}

    def mask(self, width: float) -> Tensor:
        """Return which entries of the vector belong to a width: bool of shape (size,)."""
        if width not in self._masks:
            self._masks[width] = held_entries(self._network, width).to(self._device)
        return self._masks[width]

    def count(self, width: float) -> int:
        """Return the number of parameters of a width."""
        return self._network.plan(width).numel()

    def coverage(self, weights: Mapping[int, float], widths: Sequence[float]) -> Tensor:
        """Return for each entry the total weight of the participants that hold it.

        Args:
            weights: Weight of each participant whose update is averaged, by index.
            widths: Width of every participant, by index.

        Returns:
            float64 of shape (size,), or () if all participants hold all entries.
        """
        # Summed in the order of participants, the same in every process.
        by_width: dict[float, float] = {}
        for index in sorted(weights):
            by_width[widths[index]] = by_width.get(widths[index], 0.0) + weights[index]
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for width in sorted(by_width):
            total = total + (by_width[width] if width == 1.0 else by_width[width] * self.mask(width).double())
        return total


def held_entries(network: SlimmableModel, width: Width) -> Tensor:
    """Mark the entries of the flat parameter vector that a width keeps according to its ``SlicePlan``.

    Args:
        network: The shared model.
        width: In [smallest width, 1]; one for all layers or one for each.

    Returns:
        bool of shape (size,).

    Example:
        >>> layers = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Linear(4, 1))
        >>> slim = SlimmableModel(layers, [1, 0.5], torch.zeros(1, 1))
        >>> held_entries(slim, 0.5).int().tolist()  # weight and bias of the first layer, then of the second
        [1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1]
    """
    shapes = {name: parameter.shape for name, parameter in network.full.named_parameters() if parameter.requires_grad}
    marks = {name: torch.zeros(shape, dtype=torch.bool) for name, shape in shapes.items()}
    plan = network.plan(width)
    plan.put(marks, {name: torch.ones(plan.shapes[name], dtype=torch.bool) for name in marks})
    return torch.cat([mark.reshape(-1) for mark in marks.values()])
