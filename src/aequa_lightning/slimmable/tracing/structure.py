"""How the widths cut a network: along axes, blocks of channels of which every width keeps the first ones."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from aequa_lightning.slimmable.plan import Index, SlicePlan
from aequa_lightning.slimmable.widths import Width, breakpoints, channels, share


@dataclass(frozen=True)
class Axis:
    """Channels that are kept and dropped together, a block at a time.

    Attributes:
        name: Name of the first layer that produces them; axes of one layer share a name.
        size: Channels of that layer at full width.
        unit: Channels of that layer in a block, such as those of a group or of an attention head.
    """

    name: str
    size: int
    unit: int


@dataclass(frozen=True)
class Along:
    """Where the positions of one dimension lie: an axis (or -1: always kept) and a block of it, each (positions,)."""

    axis: Tensor
    block: Tensor


@dataclass(frozen=True)
class Structure:
    """How the widths cut a network.

    Attributes:
        axes: Everything that can become narrower.
        along: For each tensor that becomes narrower, by name, what lies along each dimension (None: nothing does).
        elements: Where each channel lies.
        blocks: For each channel, the first channel that must be kept together with it.
        numbers: The channels of each dimension of each parameter and buffer, by name.
        heads: By the name of a module that computes attention, where its heads lie, and their number.
        normed: By the name of a module that norms over channels, where those lie.
        reads: Names and dimensions of the parameters that matrix products sum over.
        whole: Layers that stay whole, though nothing of the network's output depends on it, each with the reason.
        unchanged: Names of the modules whose remembered sizes are those of the full network at every width.
    """

    axes: tuple[Axis, ...]
    along: Mapping[str, tuple[Along | None, ...]]
    elements: Along
    blocks: Tensor
    numbers: Mapping[str, tuple[Tensor | None, ...]]
    heads: Mapping[str, tuple[Along, int]]
    normed: Mapping[str, Along]
    reads: frozenset[tuple[str, int]]
    whole: Mapping[str, str]
    unchanged: frozenset[str] = frozenset()

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

    def leaving(self, modules: frozenset[str]) -> "Structure":
        """Return this structure where some modules, by name, go on remembering the sizes of the full network."""
        return replace(self, unchanged=modules)

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

    def heads_at(self, sizes: tuple[int, ...]) -> dict[str, tuple[int, int]]:
        """Return the number of heads, full and kept, of each module that computes attention with a varying number."""
        return {module: (count, int(self._kept(lies, sizes).sum())) for module, (lies, count) in self.heads.items()}

    def normed_at(self, sizes: tuple[int, ...]) -> dict[str, int]:
        """Return the number of channels of each module that norms over channels that become fewer."""
        return {module: int(self._kept(lies, sizes).sum()) for module, lies in self.normed.items()}

    def exists(self, sizes: tuple[int, ...]) -> Tensor:
        """Return for each channel whether a width keeps it."""
        return self._kept(self.elements, sizes)

    def numbers_at(self, sizes: tuple[int, ...]) -> dict[str, tuple[Tensor | None, ...]]:
        """Return the channels that a width keeps of each dimension along which tensors become narrower."""
        exists = self.exists(sizes)
        return {
            name: tuple(
                None if lies is None or ids is None else ids[exists[ids]]
                for lies, ids in zip(along, self.numbers[name], strict=True)
            )
            for name, along in self.along.items()
        }

    def _kept(self, lies: Along, sizes: tuple[int, ...]) -> Tensor:
        blocks = [size // axis.unit for size, axis in zip(sizes, self.axes, strict=True)]
        return lies.block < torch.tensor([*blocks, 1])[lies.axis]


def _index(kept: Tensor) -> Index:
    """Return the kept positions, as a slice when they are a prefix."""
    positions = kept.nonzero().flatten()
    prefix = len(positions) == 0 or int(positions[-1]) == len(positions) - 1
    return slice(0, len(positions)) if prefix else positions
