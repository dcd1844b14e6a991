"""Searches for axes by which all widths of a grid are exact parts of a network; faulty axes are kept whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable.tracing.labels import number_channels
from aequa_lightning.slimmable.tracing.resolve import resolve
from aequa_lightning.slimmable.tracing.skeleton import has_size_attributes
from aequa_lightning.slimmable.tracing.structure import Structure
from aequa_lightning.slimmable.tracing.verify import Fault, fault_of, trace_full

# Why a layer stays whole that `only` does not name.
NOT_NAMED = "is not named by only"


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        structure: How widths cut the network.
        outputs: The shapes of the full network's outputs.
        sound: The sizes of the widths that were checked.
    """

    structure: Structure
    outputs: list[torch.Size]
    sound: set[tuple[int, ...]]


def find_structure(
    blank: nn.Module,
    tensors: Mapping[str, Tensor],
    example_input: Tensor,
    widths: Sequence[float],
    *,
    by_numbers: bool,
    only: Sequence[str] | None = None,
) -> Found:
    """Return how the widths of a grid cut a network.

    Args:
        blank: The full network's skeleton.
        tensors: Its parameters and buffers, by name, in double precision.
        example_input: What to run it on.
        widths: The grid, descending from 1.
        by_numbers: Compare each width's outputs with those of the full network too.
        only: Patterns, as in file names, of the layers whose channels may become fewer; None: all layers.

    Raises:
        InputError: When the network cannot run on the example input, has a structure that cannot be followed, or has no
            layer of a pattern that can become narrower.
    """
    named = [*blank.named_parameters(), *blank.named_buffers()]
    numbers = number_channels({name: tuple(tensor.shape) for name, tensor in named if tensor.is_meta})
    trace = trace_full(blank, tensors, example_input, numbers)
    outputs = [value.shape for value in trace.values]
    kept: list[tuple[Tensor, str]] = [] if only is None else [_channels_of_others(resolve(trace, numbers), only)]
    with_sizes = {name for name, module in blank.named_modules() if has_size_attributes(module)}
    unchanged: frozenset[str] = frozenset()

    def fault_at(structure: Structure, sizes: tuple[int, ...]) -> Fault | None:
        return fault_of(
            blank,
            tensors,
            example_input,
            structure,
            sizes,
            outputs=outputs,
            by_numbers=by_numbers,
            steps=trace.steps,
        )

    while True:
        structure = replace(resolve(trace, numbers, kept), unchanged=unchanged)
        sound: set[tuple[int, ...]] = set()
        for sizes in dict.fromkeys(map(structure.sizes, reversed(widths))):
            fault = None if sizes == structure.sizes(1.0) else fault_at(structure, sizes)
            if fault is not None:
                break
            sound.add(sizes)
        else:
            told = {layer: reason for layer, reason in structure.whole.items() if reason != NOT_NAMED}
            return Found(replace(structure, whole=told), outputs, sound)
        if fault.module is not None and fault.module in with_sizes:
            # Its code may need the full size, as embeddings that are scaled by its root do.
            with_sizes.remove(fault.module)
            other = replace(structure, unchanged=unchanged | {fault.module})
            again = fault_at(other, sizes)
            if again is None or again.module != fault.module:
                unchanged = other.unchanged
                continue
        whole = _axes_of(structure, fault)
        if not len(whole):
            raise InputError(f"network: no width can be a part of it: {fault.reason}")
        kept.append((whole, fault.reason))


def _channels_of_others(structure: Structure, only: Sequence[str]) -> tuple[Tensor, str]:
    """Return the channels of all layers that no pattern names, with the reason to keep them."""
    names = list(dict.fromkeys(axis.name for axis in structure.axes))
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"only: {pattern!r} names no layer that can become narrower; those are {names}")
    others = [
        number for number, axis in enumerate(structure.axes) if not any(fnmatchcase(axis.name, one) for one in only)
    ]
    return torch.isin(structure.channel_map.axis, torch.tensor(others)).nonzero().flatten(), NOT_NAMED


def _axes_of(structure: Structure, fault: Fault) -> Tensor:
    """Return all channels on the axes that a fault involves, by the likeliest step that involves any."""
    for channels in fault.channels:
        axes = structure.channel_map.axis[channels].unique()
        axes = axes[axes >= 0]
        if len(axes):
            return torch.isin(structure.channel_map.axis, axes).nonzero().flatten()
    return torch.zeros(0, dtype=torch.long)
