"""From what the dry run saw to *axes*: runs of channels of which every width keeps a prefix.

Elements that were tied form classes. Consecutive classes whose members advance together form an axis: all channels of a
residual stream, say, with the norms and the depthwise convolutions on it. A tensor's dimension may lie along one axis,
along several (a layer behind a concatenation), repeat one (flattened images, fused projections) or along none.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from aequa_lightning.slimmable.structure import Along, Axis, Structure
from aequa_lightning.slimmable.trace import FREE, Trace


def resolve(found: Trace) -> Structure:
    """Turn a trace into axes."""
    nothing = torch.zeros(0, dtype=torch.long)
    if not found.elements:
        return Structure((), {}, Along(nothing, nothing), {}, {}, tuple(found.reads), tuple(found.outputs))
    edges = [(nothing, nothing), *found.edges, *_uses_of_one_tensor(found)]
    label = components(found.elements, *(torch.cat(side) for side in zip(*edges, strict=True)))
    axis, channel = _runs(label, found)
    count = int(axis.max()) + 1
    size = torch.zeros(count, dtype=torch.long).scatter_reduce(0, axis, channel + 1, "amax")

    fixed = torch.zeros(count + 1, dtype=torch.bool)
    for elements in found.kept:
        fixed[axis[elements]] = True
    seen = torch.zeros(found.elements, dtype=torch.bool)
    for elements in found.seen:
        seen[elements] = True
    blocks = list(found.blocks)
    for (name, _), elements in found.loose.items():
        # A table with an entry per head (relative positions) is read by no layer, but follows the heads.
        heads_of, number_of_heads = found.heads.get(name.rpartition(".")[0], (nothing, 0))
        if number_of_heads == len(elements):
            blocks.append(((heads_of, elements), number_of_heads))
        else:
            fixed[axis[elements[~seen[elements]]]] = True
    unit = [1] * count
    for lists, number in blocks:
        for elements in lists:
            _demand(elements, len(elements) // number, axis, channel, unit, fixed)
    leader = _round_together(blocks, axis, size, unit, fixed)

    # Number the axes that can become narrower anew, in the order of the network.
    elastic = [number for number in range(count) if not fixed[number] and size[number] > unit[number]]
    renumbered = torch.full((count + 1,), FREE)
    renumbered[elastic] = torch.arange(len(elastic))
    owners = _owners(axis, found)
    axes = tuple(Axis(owners[int(leader[number])], int(size[number]), unit[number]) for number in elastic)
    along = {}
    for name, layouts in found.layouts.items():
        dims = tuple(_lie(ids, axis, channel, renumbered) for ids in layouts[0])
        if any(lies is not None for lies in dims):
            along[name] = dims
    everything = _lie(torch.arange(found.elements), axis, channel, renumbered)
    channel_zero = torch.zeros(found.elements, dtype=torch.long)
    everywhere = everything or Along(channel_zero + FREE, channel_zero)
    heads = {
        module: (lies, count)
        for module, (ids, count) in found.heads.items()
        if (lies := _lie(ids, axis, channel, renumbered)) is not None
    }
    return Structure(axes, along, everywhere, found.starts, heads, tuple(found.reads), tuple(found.outputs))


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
    label = torch.arange(count)
    while True:
        smaller = label.scatter_reduce(0, first, label[second], "amin").scatter_reduce(0, second, label[first], "amin")
        # Hooking the labels as well as the nodes, and jumping, keeps the number of passes logarithmic.
        smaller = smaller.scatter_reduce(0, label, smaller, "amin")
        smaller = smaller[smaller]
        if torch.equal(smaller, label):
            return label
        label = smaller


def _uses_of_one_tensor(found: Trace) -> list[tuple[Tensor, Tensor]]:
    """Tie the layouts of a parameter that is used more than once (shared layers, tied embeddings)."""
    edges = []
    for layouts in found.layouts.values():
        for other in layouts[1:]:
            for one, two in zip(layouts[0], other, strict=True):
                if one is not None and two is not None:
                    both = (one != FREE) & (two != FREE)
                    edges.append((one[both], two[both]))
                    found.kept += [one[(one != FREE) & ~both], two[(two != FREE) & ~both]]
                elif one is not None or two is not None:
                    lone = one if one is not None else two
                    assert lone is not None
                    found.kept.append(lone[lone != FREE])
    return edges


def _runs(label: Tensor, found: Trace) -> tuple[Tensor, Tensor]:
    """Return each element's axis and channel: classes follow each other while all their members advance together."""
    last = torch.zeros(len(label), dtype=torch.bool)
    for ids in found.starts.values():
        last[ids[-1]] = True
    follower = torch.where(last, len(label), torch.roll(label, -1))
    low = torch.full((len(label),), len(label)).scatter_reduce(0, label, follower, "amin")
    high = torch.zeros(len(label), dtype=torch.long).scatter_reduce(0, label, follower, "amax")
    members = torch.bincount(label, minlength=len(label) + 1)
    classes = torch.arange(len(label))
    together = (low == high) & (low < len(label)) & (members[:-1] == members[low])
    goes_on = together & (low != classes) & (label == classes)
    continues = torch.zeros(len(label) + 1, dtype=torch.bool)
    continues[low[goes_on]] = True
    # A class is named after its first element; where it continues another, that one's name is one less.
    heads = (label == classes) & ~continues[:-1]
    number = heads.cumsum(0) - 1
    head_at = heads.nonzero().flatten()
    return number[label], label - head_at[number[label]]


def _demand(elements: Tensor, block: int, axis: Tensor, channel: Tensor, unit: list[int], fixed: Tensor) -> None:
    """Let an axis round to whole blocks, or keep it whole where the blocks do not lie neatly on it."""
    if block == 1:
        return
    known = elements[elements != FREE]
    lies, where = axis[elements].view(-1, block), channel[elements].view(-1, block)
    neat = len(known) == len(elements) and bool(
        (lies == lies[:, :1]).all()
        and (where == where[:, :1] + torch.arange(block)).all()
        and (where[:, 0] % block == 0).all()
    )
    for number in set(axis[known].tolist()):
        if neat:
            unit[number] = math.lcm(unit[number], block)
        else:
            fixed[number] = True


def _round_together(
    blocks: Sequence[tuple[tuple[Tensor, ...], int]], axis: Tensor, size: Tensor, unit: list[int], fixed: Tensor
) -> Tensor:
    """Let different axes of which as many blocks are kept have as many units, or stay whole; return their first one."""
    first, second = [axis[:0]], [axis[:0]]
    for lists, _ in blocks:
        sides = {tuple(axis[ids[ids != FREE]].unique().tolist()) for ids in lists}
        members = sorted({number for side in sides for number in side}) if len(sides) > 1 else []
        first.append(torch.tensor(members[:1] * len(members), dtype=torch.long))
        second.append(torch.tensor(members, dtype=torch.long))
    leader = components(len(size), torch.cat(first), torch.cat(second))
    for number in leader[torch.cat(second)].unique():
        members = (leader == number).nonzero().flatten().tolist()
        fixed[members] = bool(fixed[members].any())
        units = math.gcd(*(int(size[member]) // unit[member] for member in members))
        for member in members:
            unit[member] = int(size[member]) // units
    return leader


def _owners(axis: Tensor, found: Trace) -> dict[int, str]:
    """Return for each axis the layer that first produces it."""
    owners: dict[int, str] = {}
    for name, ids in found.starts.items():
        for number in set(axis[ids].tolist()):
            owners.setdefault(number, name.split("[")[0].rpartition(".")[0] or name)
    return owners


def _lie(ids: Tensor | None, axis: Tensor, channel: Tensor, renumbered: Tensor) -> Along | None:
    if ids is None:
        return None
    numbers = renumbered[torch.where(ids == FREE, len(renumbered) - 1, axis[ids])]
    if bool((numbers == FREE).all()):
        return None
    return Along(numbers, torch.where(numbers == FREE, 0, channel[ids]))
