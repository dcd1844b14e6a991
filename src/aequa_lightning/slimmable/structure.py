"""How the widths cut a network: along axes, runs of channels of which every width keeps a prefix."""

from collections.abc import Mapping
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
