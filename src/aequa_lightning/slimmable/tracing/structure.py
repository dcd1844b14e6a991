"""The structure of a slimmable network: its axes, and the channels that a width keeps of them."""

from collections.abc import Mapping
from dataclasses import dataclass
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
class AxisMap:
    """The axis (-1: none, always kept) and its block at each position of one dimension, each of shape (positions,)."""

    axis: Tensor
    block: Tensor


@dataclass(frozen=True)
class Structure:
    """How the widths cut a network.

    Attributes:
        axes: Everything that can become narrower.
        axis_maps: For each tensor that becomes narrower, by name, the axes along each dimension (None: none).
        channel_map: The axis and the block of each channel.
        blocks: For each channel, the first channel that must be kept together with it.
        numbers: The channels of each dimension of each parameter and buffer, by name.
        heads: By the name of a module that computes attention, the axes of its heads, and their number.
        normed: By the name of a module that norms over channels, the axes of those channels.
        reads: Names and dimensions of the parameters that matrix products sum over.
        whole: Layers that keep all channels at every width though the output does not need them, each with the reason.
        unchanged: Names of the modules whose size attributes are those of the full network at every width.
    """

    axes: tuple[Axis, ...]
    axis_maps: Mapping[str, tuple[AxisMap | None, ...]]
    channel_map: AxisMap
    blocks: Tensor
    numbers: Mapping[str, tuple[Tensor | None, ...]]
    heads: Mapping[str, tuple[AxisMap, int]]
    normed: Mapping[str, AxisMap]
    reads: frozenset[tuple[str, int]]
    whole: Mapping[str, str]
    unchanged: frozenset[str] = frozenset()

    def sizes(self, width: Width) -> tuple[int, ...]:
        """Return how many channels of each axis the width keeps; equal sizes mean the same sub-network."""
        return tuple(channels(axis.size, share(width, axis.name), axis.unit) for axis in self.axes)

    def between(self, narrow: float, wide: float) -> dict[float, dict[str, float]]:
        """Return the shares of layers between one width and a wider one, by widening one layer after another.

        Args:
            narrow: The first width, in (0, 1].
            wide: The last width, in (0, 1].

        Returns:
            The steps between the two, which nest, each by a number between ``narrow`` and ``wide`` that grows with it.
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
            axis_maps = self.axis_maps.get(name, (None,) * len(shape))
            index = tuple(
                slice(0, count) if axis_map is None else _index(self._kept(axis_map, sizes))
                for axis_map, count in zip(axis_maps, shape, strict=True)
            )
            indices[name] = index
            narrow[name] = tuple(part.stop if isinstance(part, slice) else len(part) for part in index)
        return SlicePlan(indices, narrow)

    def heads_at(self, sizes: tuple[int, ...]) -> dict[str, tuple[int, int]]:
        """Return the number of heads, full and kept, of each module that computes attention, by name."""
        return {
            module: (count, int(self._kept(axis_map, sizes).sum())) for module, (axis_map, count) in self.heads.items()
        }

    def normed_at(self, sizes: tuple[int, ...]) -> dict[str, int]:
        """Return the number of channels that each norm over narrowed channels keeps, by the module's name."""
        return {module: int(self._kept(axis_map, sizes).sum()) for module, axis_map in self.normed.items()}

    def exists(self, sizes: tuple[int, ...]) -> Tensor:
        """Return for each channel whether a width keeps it."""
        return self._kept(self.channel_map, sizes)

    def numbers_at(self, sizes: tuple[int, ...]) -> dict[str, tuple[Tensor | None, ...]]:
        """Return the channels that a width keeps of each dimension along which tensors become narrower."""
        exists = self.exists(sizes)
        return {
            name: tuple(
                None if axis_map is None or ids is None else ids[exists[ids]]
                for axis_map, ids in zip(axis_maps, self.numbers[name], strict=True)
            )
            for name, axis_maps in self.axis_maps.items()
        }

    def describe(self, parameters: Mapping[float, int]) -> str:
        """Return a table of the axes: the channels of each at each width, and the parameters.

        Below it stand the layers that stay whole at every width, each with the reason.

        Args:
            parameters: Number of parameters of each width to show.

        Example:
            >>> from aequa_lightning.slimmable import SlimmableModel
            >>> net = torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3))
            >>> slim = SlimmableModel(net, [1, 0.5], torch.zeros(1, 4))
            >>> print(slim.structure.describe({1.0: 83, 0.5: 43}))
            layer       unit   1  0.5
            0              1  10    5
            parameters        83   43
        """
        header = ["layer", "unit", *(f"{width:g}" for width in parameters)]
        columns = [self.sizes(width) for width in parameters]
        rows = [
            [axis.name, str(axis.unit), *(str(column[number]) for column in columns)]
            for number, axis in enumerate(self.axes)
        ]
        rows.append(["parameters", "", *(f"{count:,}" for count in parameters.values())])
        spans = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        lines = []
        for row in [header, *rows]:
            first, *others = zip(row, spans, strict=True)
            lines.append([first[0].ljust(first[1]), *(cell.rjust(span) for cell, span in others)])
        whole = [f"stays whole: {layer}: {reason}" for layer, reason in self.whole.items()]
        return "\n".join([*("  ".join(line) for line in lines), *whole])

    def _kept(self, axis_map: AxisMap, sizes: tuple[int, ...]) -> Tensor:
        blocks = [size // axis.unit for size, axis in zip(sizes, self.axes, strict=True)]
        return axis_map.block < torch.tensor([*blocks, 1])[axis_map.axis]


def _index(kept: Tensor) -> Index:
    """Return the kept positions, as a slice when they are a prefix."""
    positions = kept.nonzero().flatten()
    prefix = len(positions) == 0 or int(positions[-1]) == len(positions) - 1
    return slice(0, len(positions)) if prefix else positions
