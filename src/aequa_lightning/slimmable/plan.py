"""Slice plans: the part of each parameter that belongs to a width.

Forward, extraction, masked aggregation, byte counts and the leak audit all read a :class:`SlicePlan`; nothing else
defines how a width cuts a tensor.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

Index = slice | Tensor
"""Positions kept along one dimension: a slice for a prefix, a tensor of ascending positions for segments."""


@dataclass(frozen=True)
class SlicePlan:
    """The positions of every parameter that belong to one width.

    Attributes:
        indices: For each parameter of the full network, by name, the positions kept along each dimension.
        shapes: The shapes of the parameters at this width, by name.

    Example:
        >>> plan = SlicePlan({"weight": (slice(0, 1), torch.tensor([0, 2]))}, {"weight": (1, 2)})
        >>> plan.take({"weight": torch.arange(8.0).view(2, 4)})["weight"]
        tensor([[0., 2.]])
    """

    indices: Mapping[str, tuple[Index, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    _moved: dict[tuple[str, int, torch.device], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def take(self, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return this width's part of every parameter, for computing with it.

        The results are views wherever the index is made of slices; gradients flow back into ``full``.

        Args:
            full: The full network's parameters, by name.
        """
        return {name: self.cut(name, full[name]) for name in self.indices}

    def extract(self, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return copies of this width's part of every parameter, for handing them out.

        The results are detached and contiguous: their storage holds nothing but the part. (``torch.save`` of a view
        would write the whole storage behind it, with every weight that was to be withheld.)

        Args:
            full: The full network's parameters, by name.
        """
        return {
            name: part.detach().clone(memory_format=torch.contiguous_format) for name, part in self.take(full).items()
        }

    @torch.no_grad()
    def put(self, full: Mapping[str, Tensor], narrow: Mapping[str, Tensor]) -> None:
        """Write ``narrow`` into its place in ``full``; everything else stays as it is.

        Args:
            full: Tensors shaped like the full network's parameters, by name; changed in place.
            narrow: Tensors shaped like this width's parameters, by name.
        """
        for name, index in self.indices.items():
            target = full[name]
            if all(isinstance(positions, slice) for positions in index):
                target[index].copy_(narrow[name])
            else:
                target[self._mesh(name, target)] = narrow[name].to(target)

    def cut(self, name: str, whole: Tensor) -> Tensor:
        """Return this width's part of one parameter, or the parameter itself where the width takes all of it."""
        shape = self.shapes[name]
        if whole.shape == shape:
            return whole
        if name not in self._segmented:
            # One view with one backward step; indexing would make one for every dimension.
            return whole.as_strided(shape, whole.stride())
        part, segments = self._segments(name, whole)
        for dim, positions in segments:
            part = part.index_select(dim, positions)
        return part

    def add(self, name: str, whole: Tensor, part: Tensor) -> None:
        """Add this width's part to its place in one tensor; everything else stays as it is.

        Args:
            name: The parameter's name.
            whole: Shaped like the full network's parameter, without history; changed in place.
            part: Shaped like this width's.
        """
        if name not in self._segmented:
            whole.as_strided(part.shape, whole.stride()).add_(part)
            return
        prefix, segments = self._segments(name, whole)
        if len(segments) == 1:
            prefix.index_add_(*segments[0], part)
        else:
            prefix[self._mesh(name, prefix)] += part

    def numel(self) -> int:
        """Return the number of parameters at this width."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @cached_property
    def _segmented(self) -> frozenset[str]:
        """Names of the parameters that are cut to other positions than a prefix."""
        return frozenset(n for n, index in self.indices.items() if any(isinstance(part, Tensor) for part in index))

    def _segments(self, name: str, whole: Tensor) -> tuple[Tensor, list[tuple[int, Tensor]]]:
        """Return the prefix of the dimensions cut by a slice, and for each other dimension the positions kept."""
        shape, segments = list(whole.shape), []
        for dim, positions in enumerate(self.indices[name]):
            if isinstance(positions, Tensor):
                segments.append((dim, self._on_device(name, dim, positions, whole.device)))
            else:
                shape[dim] = positions.stop
        return whole.as_strided(shape, whole.stride()), segments

    def _mesh(self, name: str, tensor: Tensor) -> tuple[Tensor, ...]:
        """Return an index per dimension that broadcasts to the whole block, as ``numpy.ix_`` does."""
        rows = []
        for dim, positions in enumerate(self.indices[name]):
            if isinstance(positions, slice):
                row = torch.arange(*positions.indices(tensor.shape[dim]), device=tensor.device)
            else:
                row = positions.to(tensor.device)
            rows.append(row.view([-1 if other == dim else 1 for other in range(tensor.ndim)]))
        return tuple(rows)

    def _on_device(self, name: str, dim: int, positions: Tensor, device: torch.device) -> Tensor:
        """Return the positions on the device, moved there once."""
        key = (name, dim, device)
        if key not in self._moved:
            self._moved[key] = positions.to(device)
        return self._moved[key]
