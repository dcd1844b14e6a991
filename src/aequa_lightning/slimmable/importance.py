"""Orders the channels of a pretrained network by importance, so that narrow widths keep the most important ones.

A network that was trained at full width only has its channels in no order, and a prefix of them is a random part.
Permuting the channels between two layers, in all tensors along them, leaves the function as it is. Source:
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
from aequa_lightning.slimmable.tracing.structure import AxisMap, Structure

Orders = Mapping[int, Tensor]
"""By the number of an axis, the block that moves to each place, (blocks,)."""


@torch.no_grad()
def order_by_importance(model: SlimmableModel) -> tuple[str, ...]:
    """Permute the channels in place so that those with the largest weights come first; the function stays the same.

    The importance of a channel is the L1 norm of the weights that read it. Channels that can only be kept together
    (groups, heads) move together. Do this once, before training: the state of an optimizer is not permuted with it.
    Statistics and parameters that are private to narrow widths are reset.

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
    model.reset_private()
    return tuple(axis.name for number, axis in enumerate(structure.axes) if number not in orders)


def channel_importance(structure: Structure, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """Return for each axis the L1 norm of the weights that read each of its blocks, (blocks,).

    Args:
        structure: How widths cut the network.
        tensors: The full network's parameters and buffers, by name.
    """
    totals = [torch.zeros(axis.size // axis.unit, dtype=torch.double) for axis in structure.axes]
    for name, axis_maps in structure.axis_maps.items():
        tensor = tensors[name].detach().double().cpu().abs()
        for dim, axis_map in enumerate(axis_maps):
            if axis_map is not None and (name, dim) in structure.reads:
                norms = tensor.sum([other for other in range(tensor.ndim) if other != dim])
                for number in set(axis_map.axis[axis_map.axis >= 0].tolist()):
                    on_axis = axis_map.axis == number
                    totals[number].index_add_(0, axis_map.block[on_axis], norms[on_axis])
    return totals


def _invariant_orders(model: SlimmableModel, importance: Sequence[Tensor]) -> Orders:
    """Return the orders by importance that the network's function does not depend on."""
    orders = {number: _order(blocks) for number, blocks in enumerate(importance)}
    if _is_invariant(model, orders):
        return orders
    # An order that happens to be the present one proves nothing, so a rotated one is tried too.
    free = {
        number: order
        for number, order in orders.items()
        if all(_is_invariant(model, {number: turned}) for turned in (order, order.roll(1)))
    }
    # Axes with the same number of blocks may depend on each other, such as halves that the network's code cuts out.
    # They can still be permuted by one common order.
    for count in {len(importance[number]) for number in orders.keys() - free.keys()}:
        bound = [number for number in orders if number not in free and len(importance[number]) == count]
        order = _order(torch.stack([importance[number] for number in bound]).sum(0))
        joint = dict.fromkeys(bound, order)
        if _is_invariant(model, joint):
            free |= joint
    return free


def _order(blocks: Tensor) -> Tensor:
    """Return the blocks in descending order of importance; equal ones keep their order."""
    return blocks.argsort(descending=True, stable=True)


def _permute(tensors: Mapping[str, Tensor], structure: Structure, orders: Orders) -> None:
    for name, axis_maps in structure.axis_maps.items():
        tensor = tensors[name]
        for dim, axis_map in enumerate(axis_maps):
            if axis_map is not None:
                tensor.copy_(tensor.index_select(dim, _sources(axis_map, orders).to(tensor.device)))


def _sources(axis_map: AxisMap, orders: Orders) -> Tensor:
    """Return for each position of a dimension the position whose values move there."""
    sources = torch.arange(len(axis_map.axis))
    for number in set(axis_map.axis.tolist()) & orders.keys():
        on_axis = (axis_map.axis == number).nonzero().flatten()
        # The places of each block, one row a block: a flattened image has many, a fused projection three.
        places = on_axis[axis_map.block[on_axis].argsort(stable=True)].view(len(orders[number]), -1)
        sources[places] = places[orders[number]]
    return sources


def _is_invariant(model: SlimmableModel, orders: Orders) -> bool:
    """Return whether the network computes the same when permuted.

    It is tested with random weights, because a zero weight would hide a dependence.
    """
    generator = torch.Generator().manual_seed(0)
    probe = copy.deepcopy(model.full).cpu().double().eval()
    tensors = _tensors(probe)
    parameters = {name for name, _ in probe.named_parameters()}
    for name in sorted(parameters | model.structure.axis_maps.keys()):
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
