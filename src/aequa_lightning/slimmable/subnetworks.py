"""Creates, checks and caches the sub-network of each width.

The cache can be recomputed from the full network and the example input, so it is neither pickled nor copied.
"""

import warnings
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import norm
from aequa_lightning.slimmable.plan import SlicePlan
from aequa_lightning.slimmable.tracing.probe import blank_tensors, dry_run, random_tensors, to_double
from aequa_lightning.slimmable.tracing.search import find_structure
from aequa_lightning.slimmable.tracing.skeleton import SkeletonRunner, check_plain, meta_copy, narrow_copy
from aequa_lightning.slimmable.tracing.structure import Structure
from aequa_lightning.slimmable.tracing.verify import fault_of
from aequa_lightning.slimmable.widths import Width


@dataclass(frozen=True)
class SubNetwork:
    """One distinct sub-network.

    Attributes:
        sizes: Channels that it keeps of each axis; they identify the sub-network.
        skeleton: Computes with tensors of its shapes.
        parameters: Its part of the full network's parameters, without those that are private to it.
        private: The part of the full network's parameters that its private ones are initialised with.
        statistics: Its part of the running statistics of norm layers.
        buffers: Its part of all other buffers.
    """

    sizes: tuple[int, ...]
    skeleton: SkeletonRunner
    parameters: SlicePlan
    private: SlicePlan
    statistics: SlicePlan
    buffers: SlicePlan


@dataclass
class _Cache:
    """Computed results, by width or by sizes."""

    blank: nn.Module | None = None
    references: list[tuple[str, Mapping[str, Any], str]] | None = None
    sizes: dict[float, tuple[int, ...]] = field(default_factory=dict)
    plans: dict[tuple[int, ...], SlicePlan] = field(default_factory=dict)
    networks: dict[tuple[int, ...], SubNetwork] = field(default_factory=dict)
    sound: set[tuple[int, ...]] = field(default_factory=set)


class SubNetworks:
    """The sub-networks of all widths, each created and checked when it is first needed.

    Args:
        full: The full network.
        example_input: A batch of inputs of the expected size, on the CPU.
        widths: The grid, descending from 1.
        private: Names of parameters that each width of the grid has for itself; with any, only those widths exist.
        verify: Check every new sub-network numerically too.
        only: Patterns of the layers that may become narrower; None: all layers.

    Attributes:
        structure: How widths cut the network.

    Raises:
        InputError: When the network cannot run on the example input, or has a structure that cannot be followed.
    """

    def __init__(
        self,
        full: nn.Module,
        example_input: Tensor,
        widths: Sequence[float],
        *,
        private: frozenset[str],
        verify: bool = True,
        only: Sequence[str] | None = None,
    ) -> None:
        check_plain(full)
        self._full, self._example_input, self._widths, self._private = full, example_input, tuple(widths), private
        self._shapes = {name: tuple(t.shape) for name, t in [*full.named_parameters(), *full.named_buffers()]}
        self._parameter_names = frozenset(name for name, _ in full.named_parameters())
        self._statistics_names = frozenset(norm.statistics(full))
        self._verify, self._only = verify, only
        self._cache = _Cache()
        with dry_run():
            self.structure, self._outputs = self._find_structure()
        self._warn_of_fixed_layers()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cache": _Cache()}

    def check(self, width: Width) -> None:
        """Raise an InputError when a width is out of range, or names a layer that cannot become narrower."""
        layers = list(dict.fromkeys(axis.name for axis in self.structure.axes))
        for layer, kept in width.items() if isinstance(width, Mapping) else [(None, width)]:
            place = "" if layer is None else f" for layer {layer!r}"
            if layer is not None and layer not in layers:
                raise InputError(f"width: {kept}{place} names no layer that can become narrower; those are {layers}")
            if not self._widths[-1] <= kept <= 1.0:
                least = f"{self._widths[-1]:g}"
                raise InputError(f"width: {kept}{place} is outside [{least}, 1], the range this network is made for")

    def sizes(self, width: Width) -> tuple[int, ...]:
        """Return how many channels of each axis a width keeps.

        Raises:
            InputError: When there is no such width.
        """
        if not isinstance(width, Mapping) and width in self._cache.sizes:
            return self._cache.sizes[width]
        self.check(width)
        sizes = self.structure.sizes(width)
        if self._private and sizes not in map(self.structure.sizes, self._widths):
            raise InputError(
                f"width: {width} has no affine parameters of its own, only the grid {list(self._widths)} has; "
                "ask for one of these, or make the model with affine='shared'"
            )
        if not isinstance(width, Mapping):
            self._cache.sizes[width] = sizes
        return sizes

    def is_full(self, width: Width) -> bool:
        """Return whether a width keeps everything."""
        return self.sizes(width) == self.sizes(1.0)

    def plan(self, width: Width) -> SlicePlan:
        """Return a width's part of the full network's parameters, without those that are private to it.

        Raises:
            InputError: When there is no such width.
        """
        return self._parameters(self.sizes(width))

    def numel(self, width: Width) -> int:
        """Return the number of parameters at a width, private ones included."""
        return self._plan(self.sizes(width), self._parameter_names).numel()

    def has(self, width: Width) -> bool:
        """Return whether the network can follow a width.

        Raises:
            InputError: When there is no such width.
        """
        return self.is_full(width) or self._make(self.sizes(width)) is None

    def at(self, width: Width) -> SubNetwork:
        """Return the sub-network of a width.

        Raises:
            InputError: When there is no such width, or the network cannot follow it.
        """
        sizes = self.sizes(width)
        reason = self._make(sizes)
        if reason is not None:
            raise InputError(f"width: this network cannot have {width}: {reason}. {self._nearest(width)}")
        return self._cache.networks[sizes]

    def tensors(self) -> dict[str, Tensor]:
        """Return the full network's parameters and buffers by name, through references made once."""
        if self._cache.references is None:
            self._cache.references = [
                (f"{path}.{key}" if path else key, store, key)
                for path, part in self._full.named_modules()
                for store in (part._parameters, part._buffers)
                for key in store
                if (f"{path}.{key}" if path else key) in self._shapes
            ]
        return {name: store[key] for name, store, key in self._cache.references}

    def _parameters(self, sizes: tuple[int, ...]) -> SlicePlan:
        if sizes not in self._cache.plans:
            self._cache.plans[sizes] = self._plan(sizes, self._parameter_names - self._owned(sizes))
        return self._cache.plans[sizes]

    def _owned(self, sizes: tuple[int, ...]) -> frozenset[str]:
        """Return the names of the parameters that are private to a sub-network."""
        return frozenset() if sizes == self.sizes(1.0) else self._private

    def _plan(self, sizes: tuple[int, ...], names: AbstractSet[str]) -> SlicePlan:
        return self.structure.plan(sizes, {name: shape for name, shape in self._shapes.items() if name in names})

    def _find_structure(self) -> tuple[Structure, list[torch.Size]]:
        """Return how the widths of the grid cut the network, and the shapes of its outputs."""
        self._cache.blank = meta_copy(self._full)
        found = find_structure(
            self._cache.blank,
            self._probe_tensors(),
            self._example_input,
            self._widths,
            by_numbers=self._verify,
            only=self._only,
        )
        self._cache.sound = found.sound
        return found.structure, found.outputs

    def _warn_of_fixed_layers(self) -> None:
        """Warn of layers that no width can narrow.

        Raises:
            InputError: When there is no other layer.
        """
        told = "; ".join(f"layer {layer!r}: {reason}" for layer, reason in self.structure.whole.items())
        if not self.structure.axes and self._widths[-1] < 1:
            raise InputError(
                f"network: none of its layers can become narrower, so that all of widths={list(self._widths)} would be "
                f"the same network. {told or 'All that its layers produce reaches the output.'}"
            )
        if told:
            warnings.warn(f"The network has layers that stay whole at every width. {told}", stacklevel=4)

    def _probe_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a dry run, by name: buffers as they are, and random parameters and statistics."""
        assert self._cache.blank is not None
        buffers = {name: to_double(buffer.detach().cpu()) for name, buffer in self._full.named_buffers()}
        return (
            buffers | random_tensors(self._cache.blank) if self._verify else blank_tensors(self._cache.blank) | buffers
        )

    def _make(self, sizes: tuple[int, ...]) -> str | None:
        """Create a sub-network unless it is cached; return None, or the reason why it cannot exist."""
        if sizes in self._cache.networks:
            return None
        if self._cache.blank is None:
            self._cache.blank = meta_copy(self._full)
        if sizes not in self._cache.sound and sizes != self.structure.sizes(1.0):
            with dry_run():
                fault = fault_of(
                    self._cache.blank,
                    self._probe_tensors(),
                    self._example_input,
                    self.structure,
                    sizes,
                    outputs=self._outputs,
                    by_numbers=self._verify,
                )
            if fault is not None:
                return fault.reason
        plan, structure = self.structure.plan(sizes, self._shapes), self.structure
        skeleton = narrow_copy(
            self._cache.blank, plan, structure.heads_at(sizes), structure.normed_at(sizes), structure.unchanged
        )
        self._cache.networks[sizes] = SubNetwork(
            sizes,
            SkeletonRunner(skeleton, self._full),
            self._parameters(sizes),
            self._plan(sizes, self._owned(sizes)),
            self._plan(sizes, self._statistics_names),
            self._plan(sizes, self._shapes.keys() - self._parameter_names - self._statistics_names),
        )
        return None

    def _nearest(self, width: Width) -> str:
        """Return a sentence with the nearest widths of all layers, below and above, that the network can have."""
        shares = list(width.values()) if isinstance(width, Mapping) else [width]
        points = self.structure.breakpoints
        below = [point for point in reversed(points) if self._widths[-1] <= point < max(shares)]
        above = [point for point in points if point > max(shares)]
        legal = []
        for side in (below, above):
            some = side[:: 1 + len(side) // 24]  # checking each of them costs a dry run
            fits = (point for point in some if point == 1.0 or self._make(self.structure.sizes(point)) is None)
            legal += [f"{point:.6g}" for point in [next(fits, None)] if point is not None]
        return f"Widths nearby that it can have: {', '.join(legal) or 'only 1'}."
