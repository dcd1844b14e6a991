"""From what the dry run saw to *axes*: runs of channels of which every width keeps a prefix.

Elements that were tied form classes. Consecutive classes whose members advance together form an axis: all channels of a
residual stream, say, with the norms and the depthwise convolutions on it. A tensor's dimension may lie along one axis,
along several (a layer behind a concatenation), repeat one (flattened images, fused projections) or along none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from aequa_lightning.slimmable.plan import Index, SlicePlan
from aequa_lightning.slimmable.trace import FREE, Trace
from aequa_lightning.slimmable.widths import Width, breakpoints, channels, share


@dataclass(frozen=True)
class Axis:
    """Channels that are kept and dropped together, a prefix at a time.

    Attributes:
        name: Name of the first layer that produces them; axes of which as many blocks must be kept share a name.
        size: Channels at full width.
        unit: Channels that can only be kept or dropped together.
    """

    name: str
    size: int
    unit: int


@dataclass(frozen=True)
class Along:
    """Where the positions of one dimension lie: an axis (or -1: always kept) and a channel of it, each (positions,)."""

    axis: Tensor
    channel: Tensor


@dataclass(frozen=True)
class Structure:
    """How the widths cut a network.

    Attributes:
        axes: Everything that can become narrower.
        along: For each tensor that becomes narrower, by name, what lies along each dimension (None: nothing does).
        elements: Where each element of the trace lies.
        starts: The elements of every producing layer.
        heads: By the name of a module that computes attention, where its heads lie, and their number.
        reads: What each layer reads at full width, as in the trace.
        outputs: Shapes of the network's outputs.
    """

    axes: tuple[Axis, ...]
    along: Mapping[str, tuple[Along | None, ...]]
    elements: Along
    starts: Mapping[str, Tensor]
    heads: Mapping[str, tuple[Along, int]]
    reads: tuple[tuple[str, Tensor], ...]
    outputs: tuple[torch.Size, ...]

    def sizes(self, width: Width) -> tuple[int, ...]:
        """Return how many channels of each axis the width keeps; equal sizes mean the same sub-network."""
        return tuple(channels(axis.size, share(width, axis.name), axis.unit) for axis in self.axes)

    def between(self, narrow: float, wide: float) -> dict[float, dict[str, float]]:
        """Return the widths per layer on the way from one width to a wider one, which widens one layer after another.

        Args:
            narrow: Where the way begins, in (0, 1].
            wide: Where it ends, in (0, 1].

        Returns:
            Those between the two, which nest, each by a number between ``narrow`` and ``wide`` that grows with it.
        """
        steps = zip(self.axes, self.sizes(narrow), self.sizes(wide), strict=True)
        widening = list(dict.fromkeys(axis.name for axis, few, many in steps if few < many))
        whole = dict.fromkeys((axis.name for axis in self.axes), narrow)
        return {
            narrow + (wide - narrow) * count / len(widening): whole | dict.fromkeys(widening[:count], wide)
            for count in range(1, len(widening))
        }

    @cached_property
    def breakpoints(self) -> tuple[float, ...]:
        """The largest width of every distinct sub-network, ascending; the last one is 1."""
        return tuple(sorted({point for axis in self.axes for point in breakpoints(axis.size, axis.unit)} | {1.0}))

    def plan(self, sizes: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> SlicePlan:
        """Return the plan of a width for the named tensors.

        Args:
            sizes: The channels that the width keeps of each axis.
            shapes: Full shape of every tensor that the plan is about, by name.
        """
        indices: dict[str, tuple[Index, ...]] = {}
        narrow: dict[str, tuple[int, ...]] = {}
        for name, shape in shapes.items():
            along = self.along.get(name, (None,) * len(shape))
            index = tuple(
                slice(0, count) if lies is None else _index(self._kept(lies, sizes))
                for lies, count in zip(along, shape, strict=True)
            )
            indices[name] = index
            narrow[name] = tuple(part.stop if isinstance(part, slice) else len(part) for part in index)
        return SlicePlan(indices, narrow)

    def heads_at(self, sizes: tuple[int, ...]) -> dict[str, int]:
        """Return the number of heads of each module that computes attention with a varying number."""
        return {
            module: int(self._kept(lies, sizes).sum()) // (len(lies.axis) // count)
            for module, (lies, count) in self.heads.items()
        }

    def misaligned(self, sizes: tuple[int, ...], narrow: Trace) -> str | None:
        """Return why a narrow network is not a part of the full one, or None if it is.

        Every layer of the narrow network must read, at each position, the channel that it reads in the full one.

        Args:
            sizes: The channels that the narrow network keeps of each axis.
            narrow: What a dry run of the narrow network learned.
        """
        kept = torch.cat([self._kept(self.elements, sizes), torch.tensor([True])])  # the last one stands for FREE
        names = torch.full((narrow.elements + 1,), FREE)
        for layer, ids in narrow.starts.items():
            known = self.starts[layer]
            names[ids] = known[kept[known]]
        for (layer, full), (_, arriving) in zip(self.reads, narrow.reads, strict=True):
            expected = full[kept[full]]
            if not torch.equal(expected, names[arriving]):
                return f"layer {layer!r} would read other channels than at full width"
        if tuple(narrow.outputs) != self.outputs:
            return f"the output would have the shape {[tuple(shape) for shape in narrow.outputs]}"
        return None

    @staticmethod
    def _kept(lies: Along, sizes: tuple[int, ...]) -> Tensor:
        return lies.channel < torch.tensor([*sizes, 1])[lies.axis]


def _index(kept: Tensor) -> Index:
    """Return the kept positions, as a slice when they are a prefix."""
    positions = kept.nonzero().flatten()
    prefix = len(positions) == 0 or int(positions[-1]) == len(positions) - 1
    return slice(0, len(positions)) if prefix else positions


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
