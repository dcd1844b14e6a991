"""The important channels first: reorder a pretrained network so that its prefixes are its best parts.

A network that was trained at full width only has its channels in no order, and a prefix of them is a random part.
Permuting the channels between two layers, in everything that lies along them, leaves the function as it is. Source:
Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR 2020, section 3.3
(elastic width: channels sorted by the L1 norm of their weights).
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from aequa_lightning.slimmable.model import SlimmableModel
from aequa_lightning.slimmable.structure import Along, Structure

Orders = Mapping[int, Tensor]
"""For axes by number, the channel that goes to each place, (size,)."""


@torch.no_grad()
def order_by_importance(model: SlimmableModel) -> tuple[str, ...]:
    """Permute the channels in place so that those with the largest weights come first; the function stays the same.

    The importance of a channel is the L1 norm of the weights that read it. Channels that can only be kept together
    (groups, heads) move together. Do this once, before training: the state of an optimizer is not permuted with it.
    What is private to the narrow widths belongs to other channels afterwards and is forgotten.

    Args:
        model: A slimmable model, usually made from a pretrained network.

    Returns:
        The names of the axes that stay as they are because something besides their weights depends on their order,
        such as a norm over neighbouring channels.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> with torch.no_grad():
        ...     _ = net[0].weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        ...     _ = net[2].weight.copy_(torch.tensor([[0.1, -0.3, 0.2]]))
        >>> order_by_importance(SlimmableModel(net, [1, 0.3], torch.zeros(1, 1)))
        ()
        >>> net[0].weight.flatten().tolist()
        [2.0, 3.0, 1.0]
    """
    structure = model.structure
    orders = _invariant_orders(model, channel_importance(structure, _tensors(model.full)))
    _permute(_tensors(model.full), structure, orders)
    model.forget()
    return tuple(axis.name for number, axis in enumerate(structure.axes) if number not in orders)


def channel_importance(structure: Structure, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Return for each axis the L1 norm of the weights that read each of its channels, (size,).

    Args:
        structure: How widths cut the network.
        tensors: The full network's parameters and buffers, by name.
    """
    totals = [torch.zeros(axis.size, dtype=torch.double) for axis in structure.axes]
    for name, along in structure.along.items():
        tensor = tensors[name].detach().double().cpu().abs()
        for dim in _reading(structure, name, along):
            lies = along[dim]
            if lies is not None:
                norms = tensor.sum([other for other in range(tensor.ndim) if other != dim])
                for number in set(lies.axis[lies.axis >= 0].tolist()):
                    on_axis = lies.axis == number
                    totals[number].index_add_(0, lies.channel[on_axis], norms[on_axis])
    return totals


def _reading(structure: Structure, name: str, along: tuple[Along | None, ...]) -> list[int]:
    """Return the dimensions along which a tensor reads: all but the one of its layer's output, usually the first."""
    written = 0
    if name in structure.starts:
        ids = structure.starts[name]
        axis, channel = structure.elements.axis[ids], structure.elements.channel[ids]
        for dim, lies in enumerate(along):
            if lies is not None and torch.equal(lies.axis, axis) and torch.equal(lies.channel, channel):
                written = dim
                break
    return [dim for dim in range(len(along)) if dim != written]


def _invariant_orders(model: SlimmableModel, importance: Sequence[Tensor]) -> Orders:
    """Return the orders by importance that the network's function does not depend on."""
    axes = model.structure.axes
    movable = [number for number in range(len(axes)) if _is_even(model.structure, number)]
    units = {number: importance[number].view(-1, axes[number].unit).sum(1) for number in movable}
    orders = {number: _order(units[number], axes[number].unit) for number in movable}
    if _is_invariant(model, orders):
        return orders
    # An order by chance that of the network proves nothing, so it is turned round by a unit too.
    free = {
        number: order
        for number, order in orders.items()
        if all(_is_invariant(model, {number: turned}) for turned in (order, order.roll(axes[number].unit)))
    }
    # Axes with as many units may depend on each other: the inputs and outputs of a grouped convolution, heads and a
    # table with an entry per head. They can still move in one order.
    for count in {len(units[number]) for number in orders.keys() - free.keys()}:
        bound = [number for number in movable if number not in free and len(units[number]) == count]
        total = torch.stack([units[number] for number in bound]).sum(0)
        joint = {number: _order(total, axes[number].unit) for number in bound}
        if _is_invariant(model, joint):
            free |= joint
    return free


def _order(units: Tensor, size: int) -> Tensor:
    """Return the channels by the importance of their unit, descending; equal ones keep their order."""
    first = units.argsort(descending=True, stable=True) * size
    return (first[:, None] + torch.arange(size)).flatten()


def _is_even(structure: Structure, number: int) -> bool:
    """Return whether each channel of an axis has the same number of places in every dimension along the axis."""
    dims = [lies for along in structure.along.values() for lies in along if lies is not None]
    counts = [torch.bincount(lies.channel[lies.axis == number], minlength=structure.axes[number].size) for lies in dims]
    return all(bool((count == count[0]).all()) for count in counts)


def _permute(tensors: Mapping[str, Tensor], structure: Structure, orders: Orders) -> None:
    for name, along in structure.along.items():
        tensor = tensors[name]
        for dim, lies in enumerate(along):
            if lies is not None:
                tensor.copy_(tensor.index_select(dim, _sources(lies, orders).to(tensor.device)))


def _sources(lies: Along, orders: Orders) -> Tensor:
    """Return the position that each position of a dimension is filled from."""
    sources = torch.arange(len(lies.axis))
    for number in set(lies.axis.tolist()) & orders.keys():
        on_axis = (lies.axis == number).nonzero().flatten()
        # The places of each channel, one row a channel: a flattened image has many, a fused projection three.
        places = on_axis[lies.channel[on_axis].argsort(stable=True)].view(len(orders[number]), -1)
        sources[places] = places[orders[number]]
    return sources


def _is_invariant(model: SlimmableModel, orders: Orders) -> bool:
    """Return whether the network computes the same when permuted.

    It is tried with random weights, so that nothing hides behind a zero.
    """
    generator = torch.Generator().manual_seed(0)
    probe = copy.deepcopy(model.full).cpu().double().eval()
    tensors = _tensors(probe)
    parameters = {name for name, _ in probe.named_parameters()}
    for name in sorted(parameters | model.structure.along.keys()):
        tensor = tensors[name]
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.double)
        tensor.copy_(noise / tensor[0].numel() ** 0.5 if tensor.ndim > 1 else noise.abs() + 0.5)
    x = model.example_input
    if x.is_floating_point():
        x = torch.randn(x.shape, generator=generator, dtype=torch.double)
    before = _outputs(probe, x)
    _permute(tensors, model.structure, orders)
    return all(_is_close(a, b) for a, b in zip(before, _outputs(probe, x), strict=True))


def _is_close(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() <= 1e-9 * first.abs().max())


def _outputs(network: nn.Module, x: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(network(x)) if isinstance(leaf, Tensor)]


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return dict([*network.named_parameters(), *network.named_buffers()])
