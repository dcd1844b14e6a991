"""Constraints that a dry run puts on channels, and the labels of combined, summed and grouped tensors."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from aequa_lightning.slimmable.tracing.labels import (
    ALWAYS,
    FIRST,
    Labels,
    aligned,
    channels_of,
    is_channel,
    labels_from,
    varying,
)

OUTPUT = "reaches the network's output"
"""Why a channel is kept that could not go at any width."""

Numbers = Mapping[str, tuple[Tensor | None, ...]]
"""For each dimension of each parameter, by name, the numbers of its channels, (size,), or None."""


@dataclass(frozen=True)
class Tie:
    """Pairs of channels that must be kept together, as two equally long lists.

    With ``repeated`` set, keeping all of ``second`` at every width satisfies the constraint too. It is set where a
    tensor is combined with a smaller one that is repeated along the dimensions ``repeated``: ``first`` and ``second``
    then have the shape of the larger one.
    """

    first: Tensor
    second: Tensor
    place: str
    repeated: frozenset[int] | None = None


@dataclass
class Trace:
    """The findings of one dry run.

    Attributes:
        ties: Channels that must be kept together.
        kept: Channels that must always be kept, each list with the reason.
        parts: Lists of channels that the network's code cuts out of a tensor, as halves of it.
        heads: By the name of a module that computes attention, the first channel of each head of its query, and all
            channels of them.
        normed: By the name of a module that norms over channels, those channels.
        used: Names of the parameters and buffers that the run used, in order.
        reads: Names and dimensions of the parameters that a matrix product sums over, or in which rows are looked up.
        values: The output's tensors.
        labels: Their labels.
        steps: The labels of each step's operands and the place, in order.
        record: The place, the running module, values and labels of each step's results, where that was asked for.
    """

    ties: list[Tie] = field(default_factory=list)
    kept: list[tuple[Tensor, str]] = field(default_factory=list)
    parts: dict[bytes, Tensor] = field(default_factory=dict)
    heads: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    normed: dict[str, Tensor] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)
    reads: set[tuple[str, int]] = field(default_factory=set)
    values: list[Tensor] = field(default_factory=list)
    labels: list[Labels] = field(default_factory=list)
    steps: list[tuple[str, list[Labels]]] = field(default_factory=list)
    record: list[tuple[str, str, Tensor, Labels]] = field(default_factory=list)


class Constraints:
    """Collects the constraints that a dry run puts on channels.

    Args:
        network: The network that runs.
        numbers: The channels of its parameters and buffers.
    """

    def __init__(self, network: nn.Module, numbers: Numbers) -> None:
        super().__init__()
        self.found = Trace()
        self.numbers = numbers
        self._network = network
        self._path: list[str] = []
        self._left = ""

    # ---- where the dry run is -------------------------------------------------------------------------------------

    @contextmanager
    def naming_modules(self) -> Iterator[None]:
        """Track the names of the running modules."""
        hooks = []
        for name, module in self._network.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self._path.append(name)))
            hooks.append(module.register_forward_hook(self._leave, always_call=False))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def where(self) -> str:
        """Return the name of the innermost running module."""
        return self._path[-1] if self._path else ""

    def place(self, name: str | None = None) -> str:
        """Return where the dry run is, for messages; between layers the network's own code runs."""
        layer = f"layer {self.where()!r}" if self.where() else f"what follows layer {self._left!r}"
        return layer if name is None else f"{name!r} in {layer}"

    def _leave(self, *_: object) -> None:
        self._left = self._path.pop() or self._left

    # ---- constraints ---

    def tie(self, first: Tensor, second: Tensor, name: str) -> None:
        """Require channels to be kept together, element by element of two broadcasting factors."""
        first, second = (side.reshape(-1) for side in torch.broadcast_tensors(first, second))
        for one, other in ((first, second), (second, first)):
            self.keep(one[other == ALWAYS], f"meets something of fixed size at {self.place(name)}")
        both = is_channel(first) & is_channel(second) & (first != second)
        pairs = torch.stack([first[both], second[both]]).long() - FIRST
        if pairs.shape[1] > 1024:
            pairs = torch.unique(pairs, dim=1)
        if pairs.shape[1]:
            self.found.ties.append(Tie(pairs[0], pairs[1], self.place(name)))

    def keep(self, labels: Tensor, reason: str) -> None:
        """Require channels to be kept at every width."""
        channels = channels_of(labels)
        if len(channels):
            self.found.kept.append((channels, reason))

    def keep_all(self, operands: Sequence[Labels], reason: str) -> None:
        """Require all channels of some tensors to be kept at every width."""
        for labels in operands:
            for factor in labels.factors:
                self.keep(factor, reason)

    def combine(self, operands: Sequence[Labels], shape: Sequence[int], name: str, *, summed: bool = False) -> Labels:
        """Return the labels of an elementwise operation on broadcasting tensors; tie the channels that it combines.

        Args:
            operands: The tensors' labels.
            shape: The shape to which they broadcast.
            name: The operation.
            summed: Whether this is a matrix product. There, each operand is repeated along the other's free dimensions,
                and channels of the other that vary along those belong together.
        """
        ndim = len(shape)
        sizes = [(1,) * (ndim - len(labels.shape)) + labels.shape for labels in operands]
        spans = [(1,) * (ndim - len(labels.shape)) + labels.span for labels in operands]
        members = [(owner, aligned(f, ndim)) for owner, labels in enumerate(operands) for f in labels.factors]
        several = sum(not labels.constant and any(s > 1 for s in labels.span) for labels in operands) > 1
        if several:  # a single channel that was picked out exists wherever the code can pick it
            members = [(owner, factor) for owner, factor in members if factor.numel() > 1]
        factors = []
        while members:
            members.sort(key=lambda member: -len(varying(member[1])))
            (owner, base), *rest = members
            reached = varying(base)
            cluster = [m for m in rest if m[0] != owner and (varying(m[1]) & reached or not several)]
            members = [m for m in rest if not any(m is one for one in cluster)]
            result = base
            for other, factor in cluster:
                repeated = reached - varying(factor)
                if not repeated or not varying(factor) <= reached:
                    self.tie(base, factor, name)
                    result = _merged(result, factor)
                elif summed and all(sizes[other][dim] == 1 for dim in repeated):
                    self.tie(base, factor, name)
                    result = factor
                else:
                    self._tie_repeated(base, factor, repeated, name)
            owners = {owner, *(other for other, _ in cluster)}
            for other, labels in enumerate(operands):
                spanned = {dim for dim in reached if spans[other][dim] > 1}
                if other in owners or labels.constant or not spanned:
                    continue
                for factor in (base, *(factor for _, factor in cluster)):
                    if varying(factor) <= spanned:
                        self.keep(factor, f"meets something of fixed size at {self.place(name)}")
                    else:  # such as a table of positions that all heads share: whole heads can still go
                        self.tie_groups(Labels(tuple(shape), (factor,)), list(spanned), name)
            factors.append(result)
        return (
            labels_from(shape, factors)
            if factors
            else Labels(tuple(shape), constant=not any(not o.constant for o in operands))
        )

    def _tie_repeated(self, base: Tensor, factor: Tensor, repeated: frozenset[int], name: str) -> None:
        """Tie a factor with a smaller, repeated one, which may follow it or stay whole; other constraints decide."""
        first, second = torch.broadcast_tensors(base, factor)
        self.keep(second[first == ALWAYS], f"meets something of fixed size at {self.place(name)}")
        self.found.ties.append(Tie(first.long() - FIRST, second.long() - FIRST, self.place(name), repeated))

    def tie_groups(self, labels: Labels, dims: Sequence[int], name: str) -> Labels:
        """Tie channels that are summed, normed or pooled in groups: along ``dims``, while others vary besides.

        Returns:
            The labels of the groups, for factors that vary along ``dims`` and others; the others as they are.
        """
        within, factors = {dim % len(labels.shape) for dim in dims}, []
        for factor in labels.factors:
            inside = varying(factor) & within
            if inside and varying(factor) - within:
                first = factor[tuple(slice(0, 1) if d in inside else slice(None) for d in range(factor.ndim))]
                self.tie(factor, first, name)
                factor = first
            factors.append(factor)
        return Labels(labels.shape, tuple(factors), labels.constant)

    def reduce(self, labels: Labels, dims: Sequence[int], keepdim: bool, name: str) -> Labels:
        """Return the labels of a tensor that is summed over or otherwise reduced along dimensions."""
        ndim = len(labels.shape)
        within = sorted({dim % ndim for dim in dims}, reverse=True)
        whole = self.tie_groups(labels, within, name)
        factors = [factor for factor in whole.factors if not varying(factor) & set(within)]
        if labels.factors and not any(varying(factor) for factor in labels.factors):
            factors = list(labels.factors)
        shape = list(labels.shape)
        for dim in within:
            shape[dim] = 1
            if not keepdim:
                del shape[dim]
                factors = [factor.squeeze(dim) for factor in factors]
        return Labels(tuple(shape), tuple(factors), labels.constant and not factors)

    def record_norm(self, labels: Labels, dim: int) -> None:
        """Record the channels that the running module norms over."""
        ids = labels.along(dim)
        if bool(is_channel(ids).all()):
            self.found.normed.setdefault(self.where(), ids.long() - FIRST)

    def record_read(self, factor: Tensor) -> None:
        """Record that the dimension of a parameter is summed over, or looked up."""
        if bool(is_channel(factor).any()):
            self.found.reads.add(root_of(int(channels_of(factor)[0]), self.numbers))

    def record_part(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> None:
        """Record which channels the network's code cuts out of a tensor."""
        for one, other in zip(before, after, strict=False):
            if one.numel() <= other.numel():
                continue
            part = channels_of(other)
            if varying(one) and 0 < len(part) < len(channels_of(one)):
                self.found.parts.setdefault(part.numpy().tobytes(), part)


def _merged(first: Tensor, second: Tensor) -> Tensor:
    """Return the labels of the first factor, and where it has no channel those of the second."""
    return torch.where(is_channel(first), first, torch.maximum(first, second))


def root_of(channel: int, numbers: Numbers) -> tuple[str, int]:
    """Return the parameter and the dimension of a channel.

    Example:
        >>> root_of(3, {"weight": (torch.tensor([0, 1]), None), "bias": (torch.tensor([2, 3]),)})
        ('bias', 0)
    """
    for name, dims in numbers.items():
        for dim, ids in enumerate(dims):
            if ids is not None and len(ids) and int(ids[0]) <= channel <= int(ids[-1]):
                return name, dim
    raise KeyError(channel)
