"""Finding out which channels of which layer arrive where, by differentiating one dry run.

The dry run ignores arithmetic. Every operation that has parameters is replaced by one that emits a constant times a
*gate*, one number per output channel. Wherever such an operation reads its input, the derivative of that input with
respect to all gates tells which channel of which layer arrives at which input position, through whatever lies between:
activations, pooling, flattening, concatenation, chunking, shuffling, residual sums, gating. No rule is needed
for any of these, and none for how a model is written, for it is the operations that are watched and not the modules.

Every output channel is an *element*. What the dry run learns is a graph on the elements: two that meet at one position
belong together (residual sums, gates), some come in blocks (groups, heads), some must be kept (they reach the output).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from aequa_lightning.errors import InputError

FREE = -1
"""The element of a position that no layer produced: the model's input, padding, a sum over channels."""
_MOST_MEETING = 4  # channels of one layer that may meet at a position; more are a sum over the channels
_NOTHING = 1e-11  # derivatives up to this, or to this share of a large one, are rounding
_SPREAD = 1e-3  # variance of a position index above which it is no single position

Layout = tuple[Tensor | None, ...]
"""For each dimension of a tensor the element behind every position, or None where the dimension has no channels."""


Rule = Callable[..., Any]
"""Called with the tracer, the operation and its arguments; returns the operation's output in the dry run."""


@dataclass
class Trace:
    """What one dry run learned.

    Attributes:
        elements: Number of elements.
        starts: First element of every producing layer, by the name of its weight.
        edges: Pairs of elements that must be kept together, as two equally long tensors each.
        blocks: Lists of elements in order that fall into so many blocks each. Blocks are kept whole, and as many of
            each list, such as of the two sides of a grouped convolution.
        kept: Elements that must always be kept.
        loose: By name and dimension, elements of parameters outside layers; kept unless a layer reads them.
        seen: Elements that some layer reads position by position.
        layouts: By tensor name, the layouts of all its uses.
        heads: By the name of a module that computes attention, the elements its heads consist of, and their number.
        reads: For each layer that reads, in order, its name and the elements at its input positions.
        outputs: Shapes of the network's outputs.
    """

    elements: int = 0
    starts: dict[str, Tensor] = field(default_factory=dict)
    edges: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    blocks: list[tuple[tuple[Tensor, ...], int]] = field(default_factory=list)
    kept: list[Tensor] = field(default_factory=list)
    loose: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    seen: list[Tensor] = field(default_factory=list)
    layouts: dict[str, list[Layout]] = field(default_factory=dict)
    heads: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    reads: list[tuple[str, Tensor]] = field(default_factory=list)
    outputs: list[torch.Size] = field(default_factory=list)


def trace(skeleton: nn.Module, example_input: Tensor, rules: Mapping[Any, Rule]) -> Trace:
    """Trace the channels of a network.

    Args:
        skeleton: The network with its floating-point parameters and buffers on the meta device.
        example_input: An input of the size that the network is made for; only its shape matters, unless it
            is integer.
        rules: What to do in place of which operation.

    Raises:
        InputError: When the network cannot run on the input, or computes with its parameters in an untraceable way.
    """
    if example_input.is_floating_point():
        example_input = torch.full(example_input.shape, 0.5, dtype=torch.float64)
    tracer = Tracer(skeleton, rules)
    with _structure_mode(skeleton), torch.enable_grad(), tracer.naming_modules():
        try:
            with tracer:
                output = skeleton(example_input.cpu())
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"example_input: the network cannot run on shape {tuple(example_input.shape)}; "
                f"{tracer.place()} says: {error}"
            ) from error
    for tensor in tree_leaves(output):
        if isinstance(tensor, Tensor):
            tracer.found.outputs.append(tensor.shape)
            if tensor.requires_grad:
                tracer.keep_all_behind(tensor)
    return tracer.found


@contextmanager
def _structure_mode(module: nn.Module) -> Iterator[None]:
    """Run containers as in training (auxiliary heads, no fused kernels) and leaves as in evaluation (no dropout)."""
    modes = {part: part.training for part in module.modules()}
    try:
        for part in modes:
            part.training = any(True for _ in part.children())
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


class Tracer(TorchFunctionMode):
    """Watches the operations of the dry run and replaces those that have parameters."""

    def __init__(self, skeleton: nn.Module, rules: Mapping[Any, Rule]) -> None:
        super().__init__()
        self._rules = rules
        self.found = Trace()
        self._left = ""
        self._skeleton = skeleton
        tensors = [*skeleton.named_parameters(), *skeleton.named_buffers()]
        self._names = {id(tensor): name for name, tensor in tensors if tensor.is_meta}
        self._gates: list[Tensor] = []
        self._origins: list[Tensor] = []
        self._bare: dict[str, Tensor] = {}
        self._path: list[str] = []

    # ---- where the dry run is -------------------------------------------------------------------------------------

    @contextmanager
    def naming_modules(self) -> Iterator[None]:
        """Keep the names of the modules that are running."""
        hooks = []
        for name, module in self._skeleton.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self._path.append(name)))
            hooks.append(module.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def where(self) -> str:
        """Return the name of the innermost running module."""
        return self._path[-1] if self._path else ""

    def place(self) -> str:
        """Return where the dry run is, in words: between layers it is the network's own code that runs."""
        return f"layer {self.where()!r}" if self.where() else f"what follows layer {self._left!r}"

    def _leave(self, *_: object) -> None:
        self._left = self._path.pop() or self._left

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = self._rules.get(func)
        if rule is not None:
            return rule(self, func, *args, **kwargs)
        leaves, spec = tree_flatten((args, kwargs))
        if not any(id(leaf) in self._names for leaf in leaves if isinstance(leaf, Tensor)):
            return func(*args, **kwargs)
        getter = getattr(func, "__name__", "") == "__get__"
        args, kwargs = tree_unflatten(
            [self._stand_in(leaf, getter) if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec
        )
        return func(*args, **kwargs)

    def _stand_in(self, tensor: Tensor, getter: bool) -> Tensor:
        """Return a traced value for a parameter that is used outside a layer: one gate per dimension."""
        name = self._names.get(id(tensor))
        if name is None:
            return tensor
        if getter:
            return torch.empty((), dtype=torch.float64).expand(tensor.shape)
        if name not in self._bare:
            value = torch.ones(tensor.shape, dtype=torch.float64)
            layout: list[Tensor | None] = []
            for dim, count in enumerate(tensor.shape):
                ids = self.root(f"{name}[{dim}]", count) if count > 1 else None
                if ids is not None:
                    value = value * self.emit(tensor.shape, dim, ids)
                    self.found.loose[name, dim] = ids
                layout.append(ids)
            self.note(tensor, tuple(layout))
            self._bare[name] = value
        return self._bare[name]

    # ---- the vocabulary of the rules ------------------------------------------------------------------------------

    def name(self, weight: Tensor) -> str:
        """Return the name of a layer's parameter."""
        try:
            return self._names[id(weight)]
        except KeyError:
            raise InputError(
                f"layer {self.where()!r} computes its weight from other parameters; only weights used as they are "
                "stored can be cut. Remove the parametrization (torch.nn.utils.parametrize.remove_parametrizations)."
            ) from None

    def root(self, key: str, count: int) -> Tensor:
        """Return the elements of a producing layer; a layer that runs twice has one set of them."""
        if key not in self.found.starts:
            start = self.found.elements
            self.found.starts[key] = torch.arange(start, start + count)
            self.found.elements += count
        return self.found.starts[key]

    def emit(self, shape: Sequence[int], dim: int, ids: Tensor) -> Tensor:
        """Return a layer's output: a constant times one gate per channel.

        The constant is the same all over the output, so that a softmax over positions passes on nothing, and differs
        between layers, so that a difference between two layers does not cancel.
        """
        gate = torch.ones(len(ids), dtype=torch.float64, requires_grad=True)
        self._gates.append(gate)
        self._origins.append(ids)
        level = 0.3 + 0.5 * (len(self._gates) * 0.6180339887 % 1)
        along = [-1 if other == dim % len(shape) else 1 for other in range(len(shape))]
        return torch.full(tuple(shape), level, dtype=torch.float64) * gate.view(along)

    def note(self, tensor: Tensor | None, layout: Layout) -> None:
        """Record what lies along the dimensions of a parameter or buffer."""
        if tensor is not None and id(tensor) in self._names:
            for count, ids in zip(tensor.shape, layout, strict=True):
                if ids is not None and len(ids) != count:
                    raise ValueError(f"it has {count} channels where {len(ids)} arrive")
            self.found.layouts.setdefault(self._names[id(tensor)], []).append(layout)

    def tie(self, first: Tensor, second: Tensor) -> None:
        """Demand that the elements of two equally long lists are kept together, pair by pair."""
        both = (first != FREE) & (second != FREE)
        self.found.edges.append((first[both], second[both]))
        for one, other in ((first, second), (second, first)):
            self.found.kept.append(one[(one != FREE) & (other == FREE)])

    def source(self, ids: Tensor) -> Tensor | None:
        """Return the elements that the layer reads which produces the given ones, if it is a linear layer."""
        for layouts in self.found.layouts.values():
            produced, *read = layouts[0]
            if produced is not None and len(read) == 1 and bool(torch.isin(ids, produced).all()):
                return read[0]
        return None

    def arrive(self, x: Tensor, dim: int) -> Tensor:
        """Return the elements that a layer reads, one for each position of ``x`` along ``dim``."""
        ids = self.look(x, dim)
        self.found.reads.append((self.where(), ids))
        return ids

    def look(self, x: Tensor, dim: int) -> Tensor:
        """Return the element at each position of ``x`` along ``dim``, and tie those that meet at a position."""
        ids = torch.full((x.shape[dim],), FREE)
        if x.requires_grad:
            position, element = self._meetings(x, dim)
            # Written backwards, so that the first of several elements at a position stays.
            ids[position.flip(0)] = element.flip(0)
            self.found.edges.append((ids[position], element))
            self.found.seen.append(element)
        return ids

    def keep_all_behind(self, output: Tensor) -> None:
        """Keep every element that reaches the output."""
        weights = torch.rand(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(0)) + 0.5
        for gate, ids in zip(self._derivatives(output, weights), self._origins, strict=True):
            if gate is not None:
                self.found.kept.append(ids[(gate.abs() > _NOTHING) & (ids != FREE)])

    def _derivatives(self, flow: Tensor, weights: Tensor) -> tuple[Tensor | None, ...]:
        if not self._gates:
            return ()
        return torch.autograd.grad(flow, self._gates, weights, retain_graph=True, allow_unused=True)

    def _meetings(self, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Return the pairs (position, element) that meet along a dimension, from the moments of the derivatives."""
        flow = x.sum([other for other in range(x.ndim) if other != dim % x.ndim]) if x.ndim > 1 else x
        count = torch.arange(len(flow), dtype=torch.float64)
        moments = [self._derivatives(flow, count**power) for power in range(3)]
        positions, elements = [flow.new_empty(0, dtype=torch.long)], [flow.new_empty(0, dtype=torch.long)]
        for gate, ids, *moment in zip(self._gates, self._origins, *moments, strict=True):
            if moment[0] is None:
                continue
            position, clean = _mean_and_clean(*moment)
            reached = _reached(moment[0])
            channel = torch.arange(len(gate))
            if not bool(clean[reached].all()):  # a channel arrives at several positions: look from the other end
                channel, clean, reached = self._sources(flow, gate)
                position = torch.arange(len(flow))
            valid = reached & clean
            position, channel = position[valid], channel[valid]
            few = torch.bincount(position, minlength=len(flow))[position] <= _MOST_MEETING
            position, element = position[few], ids[channel[few]]
            positions.append(position[element != FREE])
            elements.append(element[element != FREE])
        return torch.cat(positions), torch.cat(elements)

    @staticmethod
    def _sources(flow: Tensor, gate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return for each position the channel that arrives, whether it is a single one, and whether any does.

        The derivative of the gate's derivative with respect to its cotangent is the forward-mode derivative.
        """
        cotangent = torch.ones_like(flow, requires_grad=True)
        (back,) = torch.autograd.grad(flow, gate, cotangent, create_graph=True)
        count = torch.arange(len(gate), dtype=torch.float64)
        moment = [torch.autograd.grad(back, cotangent, count**power, retain_graph=True)[0] for power in range(3)]
        channel, clean = _mean_and_clean(*moment)
        return channel, clean, _reached(moment[0])


def _reached(total: Tensor) -> Tensor:
    return total.abs() > _NOTHING * total.abs().max().clamp_min(1)


def _mean_and_clean(total: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean index under the weights, rounded, and whether all the weight is at that index."""
    safe = torch.where(_reached(total), total, 1)
    mean = first / safe
    return mean.round().long(), (second / safe - mean**2).abs() < _SPREAD
