"""Turns the constraints of a dry run into axes: blocks of channels of which every width keeps the first ones.

Channels that must be kept together form a block. Blocks that have as many channels in the same dimensions of the same
parameters are interchangeable, and form an axis: the channels of a residual stream, say, with the norms and the
depthwise convolutions on it, or the heads of an attention. Channels that are kept at every width are on no axis.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from aequa_lightning.slimmable.tracing.constraints import OUTPUT, Numbers, Tie, Trace, root_of
from aequa_lightning.slimmable.tracing.structure import Axis, AxisMap, Structure

Kept = Sequence[tuple[Tensor, str]]


def resolve(found: Trace, numbers: Numbers, fixed: Kept = ()) -> Structure:
    """Turn the constraints of a dry run into axes.

    Args:
        found: The findings of the run of the full network.
        numbers: The channels of its parameters and buffers.
        fixed: Further channels to keep at every width, each list with the reason.
    """
    count = 1 + max((int(ids[-1]) for dims in numbers.values() for ids in dims if ids is not None), default=-1)
    kept = [*found.kept, *fixed]
    kept += [
        (ids, "is used by no operation") for name, dims in numbers.items() if name not in found.used for ids in dims
        if ids is not None
    ]  # fmt: skip
    block, further = _blocks(count, [*found.ties, *_streams(found, numbers)])
    kept += further
    reasons: dict[int, str] = {}
    for ids, reason in kept:
        for number in block[ids].unique().tolist():
            if reason == OUTPUT or number not in reasons:
                reasons[number] = reason
    always = torch.zeros(count, dtype=torch.bool)
    always[list(reasons)] = True
    channel_map, axes = _axes(block, always, found, numbers)
    axis_maps = {}
    for name, dims in numbers.items():
        maps = tuple(None if ids is None else _on(channel_map, ids) for ids in dims)
        if any(part is not None for part in maps):
            axis_maps[name] = maps
    heads = {
        module: (part, len(ids))
        for module, (ids, _) in found.heads.items()
        if (part := _on(channel_map, ids)) is not None
    }
    normed = {module: part for module, ids in found.normed.items() if (part := _on(channel_map, ids)) is not None}
    whole = _whole(block, channel_map, reasons, found, numbers)
    return Structure(axes, axis_maps, channel_map, block, numbers, heads, normed, frozenset(found.reads), whole)


def _streams(found: Trace, numbers: Numbers) -> list[Tie]:
    """Tie the input channels of an attention's query to its heads, where both have the same number of channels.

    Code that splits the channels into heads often uses the input's number of channels for it.
    """
    ties = []
    for module, (_, channels) in found.heads.items():
        name, written = root_of(int(channels[0]), numbers)
        others = [ids for dim, ids in enumerate(numbers[name]) if dim != written and ids is not None]
        if len(others) == 1 and len(others[0]) == len(channels):
            ties.append(Tie(channels, others[0], f"the heads of {module!r}"))
    return ties


def components(count: int, first: Tensor, second: Tensor) -> Tensor:
    """Return for each node of a graph the smallest node it is connected with.

    Args:
        count: Number of nodes.
        first: One end of every edge.
        second: The other end.

    Example:
        >>> components(5, torch.tensor([1, 4]), torch.tensor([3, 3]))
        tensor([0, 1, 2, 1, 1])
    """
    graph = coo_array((np.ones(len(first), dtype=bool), (first.numpy(), second.numpy())), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    smallest = np.full(count, count)
    np.minimum.at(smallest, label, np.arange(count))
    return torch.from_numpy(smallest[label]).long()


def _blocks(count: int, ties: Sequence[Tie]) -> tuple[Tensor, list[tuple[Tensor, str]]]:
    """Return the block of each channel, named after its first one, and channels that are kept instead of being tied.

    Where a tensor is combined with a smaller, repeated one, the smaller one stays whole if the larger one's channels
    differ only along the repetition (a rotary table that all heads share); else its channels follow (a gate for each
    group).
    """
    nothing = torch.zeros(0, dtype=torch.long)
    first, second = [nothing], [nothing]
    open_ties = []
    for tie in ties:
        if tie.repeated is None:
            first.append(tie.first)
            second.append(tie.second)
        else:
            open_ties.append(tie)
    kept: list[tuple[Tensor, str]] = []
    while True:
        block = components(count, torch.cat(first), torch.cat(second))
        still_open = []
        for tie in open_ties:
            if _differs_only_along(tie, block):
                kept.append((tie.second[tie.second >= 0].unique(), f"is repeated at {tie.place}"))
            else:
                still_open.append(tie)
        if not still_open:
            return block, kept
        if len(still_open) == len(open_ties):
            for tie in still_open:
                both = (tie.first >= 0) & (tie.second >= 0)
                first.append(tie.first[both])
                second.append(tie.second[both])
            still_open = []
        open_ties = still_open


def _differs_only_along(tie: Tie, block: Tensor) -> bool:
    """Return whether the blocks of the larger tensor are the same all along the smaller one."""
    assert tie.repeated is not None
    blocks = torch.where(tie.first >= 0, block[tie.first.clamp_min(0)], -1)
    for dim, size in enumerate(blocks.shape):
        if size > 1 and dim not in tie.repeated and not bool((blocks == blocks.narrow(dim, 0, 1)).all()):
            return False
    return True


def _axes(block: Tensor, always: Tensor, found: Trace, numbers: Numbers) -> tuple[AxisMap, tuple[Axis, ...]]:
    """Return the axis and block of each channel, and the axes in the order of the network."""
    free = ~always[block]
    roots = [(name, dim, ids) for name, dims in numbers.items() for dim, ids in enumerate(dims) if ids is not None]
    groups = [ids for _, _, ids in roots] + list(found.parts.values())
    signatures = _signatures(block, free, groups)
    axis_of = torch.full((len(block),), -1)
    order = {name: number for number, name in enumerate(found.used)}
    axes: list[tuple[int, int, Axis, list[int]]] = []
    for signature, blocks in signatures.items():
        if len(blocks) < 2:
            continue
        touched = {number: count for number, count in signature if number < len(roots)}
        written = [n for n in touched if roots[n][:2] not in found.reads] or list(touched)
        owner = min(written, key=lambda n: (order.get(roots[n][0], len(order)), n))
        name = roots[owner][0]
        layer = name.rpartition(".")[0] or name
        unit = touched[owner]
        axes.append((order.get(name, len(order)), min(blocks), Axis(layer, unit * len(blocks), unit), sorted(blocks)))
    axes.sort(key=lambda entry: entry[:2])
    position = torch.full((len(block),), -1)
    for number, (_, _, _, blocks) in enumerate(axes):
        position[blocks] = torch.arange(len(blocks))
        axis_of[blocks] = number
    on_axis = axis_of[block]
    channel_map = AxisMap(on_axis, torch.where(on_axis >= 0, position[block], 0))
    return channel_map, tuple(axis for _, _, axis, _ in axes)


def _signatures(
    block: Tensor, free: Tensor, groups: Sequence[Tensor]
) -> Mapping[tuple[tuple[int, int], ...], list[int]]:
    """Return the blocks by how many of their channels lie in each group."""
    pairs = [torch.stack([block[ids], torch.full_like(ids, number)]) for number, ids in enumerate(groups)]
    pairs = [pair[:, free[pair[0]]] for pair in pairs]
    joined = torch.cat(pairs, 1) if pairs else torch.zeros(2, 0, dtype=torch.long)
    if not joined.shape[1]:
        return {}
    key = joined[0] * len(groups) + joined[1]
    unique, counts = torch.unique(key, return_counts=True)
    found: dict[int, list[tuple[int, int]]] = {}
    for value, count in zip(unique.tolist(), counts.tolist(), strict=True):
        found.setdefault(value // len(groups), []).append((value % len(groups), count))
    blocks: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for number, signature in found.items():
        blocks.setdefault(tuple(signature), []).append(number)
    return blocks


def _on(channel_map: AxisMap, ids: Tensor) -> AxisMap | None:
    axis = channel_map.axis[ids]
    return None if bool((axis < 0).all()) else AxisMap(axis, channel_map.block[ids])


def _whole(
    block: Tensor, channel_map: AxisMap, reasons: Mapping[int, str], found: Trace, numbers: Numbers
) -> dict[str, str]:
    """Return the layers all of whose channels are kept at every width, each with the reason."""
    whole: dict[str, str] = {}
    for name, dims in numbers.items():
        if name in found.used and not any((name, dim) in found.reads for dim in range(len(dims))):
            continue
        if len(dims) < 2:  # no layer's weight, such as a buffer that only training uses
            continue
        for dim, ids in enumerate(dims[:2]):
            if ids is None or (name, dim) in found.reads or bool((channel_map.axis[ids] >= 0).any()):
                continue
            said = [reasons[number] for number in block[ids].unique().tolist() if number in reasons]
            reason = next(iter(said), f"its {len(ids)} channels can only be kept together")
            if reason not in (OUTPUT, "is a word of an embedding", "lies within a group"):
                whole.setdefault(name.rpartition(".")[0] or name, reason)
    return whole
