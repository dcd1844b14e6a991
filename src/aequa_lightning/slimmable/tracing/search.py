"""Searches for axes by which all widths of a grid are exact parts of a network; faulty axes are kept whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable.tracing.labels import number_channels
from aequa_lightning.slimmable.tracing.resolve import resolve
from aequa_lightning.slimmable.tracing.skeleton import has_size_attributes
from aequa_lightning.slimmable.tracing.structure import Structure
from aequa_lightning.slimmable.tracing.verify import Fault, fault_of, trace_full


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
) -> Found:
    """Return how the widths of a grid cut a network.

    Args:
        blank: The full network's skeleton.
        tensors: Its parameters and buffers, by name, in double precision.
        example_input: What to run it on.
        widths: The grid, descending from 1.
        by_numbers: Compare each width's outputs with those of the full network too.

    Raises:
        InputError: When the network cannot run on the example input, or has a structure that cannot be followed.
    """
    named = [*blank.named_parameters(), *blank.named_buffers()]
    numbers = number_channels({name: tuple(tensor.shape) for name, tensor in named if tensor.is_meta})
    trace = trace_full(blank, tensors, example_input, numbers)
    outputs = [value.shape for value in trace.values]
    kept: list[tuple[Tensor, str]] = []
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
            return Found(structure, outputs, sound)
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


def _axes_of(structure: Structure, fault: Fault) -> Tensor:
    """Return all channels on the axes that a fault involves, by the likeliest step that involves any."""
    for channels in fault.channels:
        axes = structure.channel_map.axis[channels].unique()
        axes = axes[axes >= 0]
        if len(axes):
            return torch.isin(structure.channel_map.axis, axes).nonzero().flatten()
    return torch.zeros(0, dtype=torch.long)
