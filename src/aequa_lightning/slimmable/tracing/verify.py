"""Checks by labels and by numbers that a width is an exact part of the full network.

The narrow network is run with random weights in double precision and compared with the full one, in which all channels
that the width does not keep are zero; means, norms and softmax over channels are taken over the kept ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable.tracing.constraints import Numbers, Trace
from aequa_lightning.slimmable.tracing.labels import FIRST, Labels, channels_of
from aequa_lightning.slimmable.tracing.operations import rule_of
from aequa_lightning.slimmable.tracing.probe import probe, random_input
from aequa_lightning.slimmable.tracing.skeleton import narrow_copy
from aequa_lightning.slimmable.tracing.structure import Structure
from aequa_lightning.slimmable.tracing.trace import Tracer, run

_TRIES = 3  # runs without new parameters after which those that no run has used count as unused
_TOLERANCE = 1e-6  # relative to the largest value; a correct width differs by 1e-12


@dataclass(frozen=True)
class Fault:
    """Why a width is not a part of the full network.

    Attributes:
        reason: One sentence.
        channels: The channels that are involved, the likeliest cause first.
        module: Name of the module whose code ran, where that is known.
    """

    reason: str
    channels: list[Tensor]
    module: str | None = None


def trace_full(skeleton: nn.Module, tensors: Mapping[str, Tensor], example_input: Tensor, numbers: Numbers) -> Trace:
    """Run the full network once and return the findings.

    Raises:
        InputError: When it cannot run on the example input.
    """
    network = probe(skeleton, tensors)
    tracer = Tracer(network, numbers, rule_of, products=False)
    try:
        found = run(tracer, network, random_input(example_input, skeleton))
        _take_other_ways(found, network, example_input, numbers)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"example_input: the network cannot run on shape {tuple(example_input.shape)}; "
            f"{tracer.place()} says: {error}"
        ) from error
    return found


def _take_other_ways(found: Trace, network: nn.Module, example_input: Tensor, numbers: Numbers) -> None:
    """Run on other inputs while they make the network use further parameters, such as other experts."""
    values, labels, steps = found.values, found.labels, len(found.steps)
    names = {name for name, _ in network.named_parameters()}
    in_vain, seed = 0, 0
    while in_vain < _TRIES and not names <= found.used.keys():
        seed, before = seed + 1, len(found.used)
        tracer = Tracer(network, numbers, rule_of)
        tracer.found = found
        run(tracer, network, random_input(example_input, network, seed))
        in_vain = in_vain + 1 if len(found.used) == before else 0
    found.values, found.labels = values, labels
    del found.steps[steps:]


def fault_of(
    skeleton: nn.Module,
    tensors: Mapping[str, Tensor],
    example_input: Tensor,
    structure: Structure,
    sizes: tuple[int, ...],
    *,
    outputs: list[torch.Size],
    by_numbers: bool,
    steps: Sequence[tuple[str, list[Labels]]] = (),
) -> Fault | None:
    """Return why a narrow network is not a part of the full one, or None if it is.

    Args:
        skeleton: The full network's skeleton.
        tensors: The full network's parameters and buffers, by name, in double precision.
        example_input: What to run it on.
        structure: How widths cut the network.
        sizes: The channels that the width keeps of each axis.
        outputs: The shapes of the full network's outputs.
        by_numbers: Compare the outputs too, which takes a second run.
        steps: The steps of the full network; a narrow one has no labels where it keeps one channel.
    """
    plan = structure.plan(sizes, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    x = random_input(example_input, skeleton)

    def narrow(record: bool = False) -> tuple[Tracer, nn.Module]:
        blank = narrow_copy(skeleton, plan, structure.heads_at(sizes), structure.normed_at(sizes), structure.unchanged)
        network = probe(blank, tensors, plan)
        numbers = structure.numbers_at(sizes)
        return Tracer(network, numbers, rule_of, record=record, products=by_numbers), network

    def zeroed(record: bool = False) -> tuple[Tracer, nn.Module]:
        network = probe(skeleton, tensors)
        exists = torch.cat([torch.ones(FIRST, dtype=torch.bool), structure.exists(sizes)])
        return Tracer(network, structure.numbers, rule_of, exists=exists, record=record), network

    tracer, network = narrow()
    try:
        found = run(tracer, network, x)
    except Exception as error:
        run_so_far = [labels for _, labels in tracer.found.steps]
        at_full = [labels for _, labels in steps[: len(run_so_far)]]
        none: list[Labels] = []
        involved = [_channels([*a, *b]) for a, b in zip_longest(run_so_far, at_full, fillvalue=none)]
        involved = [*reversed(involved), *_parameters_of(tracer.where(), structure.numbers)]
        return Fault(f"{tracer.place()} cannot run: {error}", [ids for ids in involved if len(ids)], tracer.where())
    for tie in found.ties:
        known = (tie.first >= 0) & (tie.second >= 0)
        apart = structure.blocks[tie.first[known]] != structure.blocks[tie.second[known]]
        if tie.repeated is not None:
            apart &= structure.channel_map.axis[tie.second[known]] >= 0
        if bool(apart.any()):
            ids = torch.cat([tie.first[known], tie.second[known]])
            return Fault(f"{tie.place} would combine other channels than at full width", [ids.unique()])
    shapes = [value.shape for value in found.values]
    if shapes != outputs:
        return Fault(
            f"the output would have the shape {[tuple(shape) for shape in shapes]}",
            [_channels(found.labels), *_last(found)],
        )
    if not by_numbers:
        return None
    expected = run(*zeroed(), x).values
    if all(_close(a, b) for a, b in zip(found.values, expected, strict=True)):
        return None
    pair = [run(*maker(record=True), x) for maker in (narrow, zeroed)]
    return _first_difference(*pair, exists=structure.exists(sizes))


def _parameters_of(module: str, numbers: Numbers) -> list[Tensor]:
    """Return the channels of the parameters of a module, then of the one around it, and so on."""
    found = []
    parts = module.split(".") if module else []
    for depth in range(len(parts), -1, -1):
        start = "".join(f"{part}." for part in parts[:depth])
        ids = [ids for name, dims in numbers.items() if name.startswith(start) for ids in dims if ids is not None]
        found.append(torch.cat(ids) if ids else torch.zeros(0, dtype=torch.long))
    return found


def _first_difference(narrow: Trace, full: Trace, *, exists: Tensor) -> Fault:
    """Return the fault of the first step whose results differ."""
    table = torch.cat([torch.ones(FIRST, dtype=torch.bool), exists])
    place = "the output"
    for (place, module, value, labels), (*_, expected, its) in zip(narrow.record, full.record, strict=False):
        mask = torch.ones(its.shape, dtype=torch.bool)
        for factor in its.factors:
            mask = mask & table[factor.long()]
        part = expected[mask]
        if part.numel() != value.numel() or not _close(value.reshape(-1), part.reshape(-1)):
            ids = torch.cat([_channels([labels]), _channels([its])])
            return Fault(f"{place} would compute something else than at full width", [ids, *_last(narrow)], module)
    return Fault(f"{place} would compute something else than at full width", _last(narrow))


def _last(found: Trace) -> list[Tensor]:
    return [ids for _, labels in reversed(found.steps) if len(ids := _channels(labels))]


def _channels(labels: list[Labels]) -> Tensor:
    found = [channels_of(factor) for its in labels for factor in its.factors]
    return torch.cat(found).unique() if found else torch.zeros(0, dtype=torch.long)


def _close(value: Tensor, expected: Tensor) -> bool:
    if not (value.is_floating_point() or value.is_complex()):
        return torch.equal(value, expected)
    finite = torch.isfinite(expected)
    if not torch.equal(torch.isfinite(value), finite):
        return False
    scale = float(expected[finite].abs().max()) if bool(finite.any()) else 0.0
    return bool(((value - expected)[finite].abs() <= _TOLERANCE * scale).all())
