"""A network of any width: one set of weights whose prefixes are networks too."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import norm
from aequa_lightning.slimmable.lending import lend
from aequa_lightning.slimmable.operations import RULES
from aequa_lightning.slimmable.plan import SlicePlan
from aequa_lightning.slimmable.skeleton import Borrower, filled_copy, meta_copy, narrow_copy
from aequa_lightning.slimmable.structure import resolve
from aequa_lightning.slimmable.trace import trace
from aequa_lightning.slimmable.widths import Width, grid


@dataclass
class _Derived:
    """What is made on demand from the full network, and neither stored nor copied."""

    blank: nn.Module | None = None
    references: list[tuple[str, Mapping[str, Any], str]] | None = None
    sizes: dict[float, tuple[int, ...]] = field(default_factory=dict)
    plans: dict[tuple[int, ...], SlicePlan] = field(default_factory=dict)
    narrow: dict[tuple[int, ...], "_Narrow"] = field(default_factory=dict)


@dataclass(frozen=True)
class _Narrow:
    """One distinct sub-network: its skeleton, and what it takes of the buffers that are not norm statistics."""

    skeleton: Borrower
    buffers: SlicePlan
    statistics: SlicePlan
    sizes: tuple[int, ...]


class SlimmableModel(nn.Module):
    """A plain network that can be run, trained and handed out at any width.

    The full network stays what it is; a narrow width computes with the leading part of every layer, through a skeleton
    of the narrow shapes that borrows slices of the full weights for the length of one forward. There is no
    state to forget: the width is an argument.

    Args:
        full: Any network made of torch's layers. It is held, not copied.
        widths: The grid that training draws from: shares in (0, 1] with 1 among them. Their smallest is the smallest
            width that can be asked for; between it and 1 any width can. Wherever a width is asked for, shares of single
            layers can be too: by the names that :meth:`describe` shows, where layers that are not named stay whole.
        example_input: A batch (one sample is enough) of the size that the network is made for.
        affine: ``"shared"``: all widths share the weights and biases of batch and instance norms, and their parameters
            are those of ``full``. ``"private"``: every width of the grid has its own, and there are no other widths.

    Attributes:
        full: The full network.
        widths: The grid, descending from 1.
        structure: How widths cut the network.
        has_statistics: Whether any norm layer keeps running statistics.

    Raises:
        InputError: When a width is no share in (0, 1], the network's structure cannot follow a width of the grid, or
            there are no affine parameters to be private.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 3))
        >>> slim = SlimmableModel(net, [1, 0.5], torch.zeros(1, 4))
        >>> slim(torch.ones(2, 4), width=0.7).shape, slim.extract(0.7)[0]
        (torch.Size([2, 3]), Linear(in_features=4, out_features=7, bias=True))
        >>> slim.extract({"0": 0.6})[0]
        Linear(in_features=4, out_features=6, bias=True)
    """

    def __init__(
        self,
        full: nn.Module,
        widths: Sequence[float],
        example_input: Tensor,
        *,
        affine: Literal["shared", "private"] = "shared",
    ) -> None:
        super().__init__()
        self.full = full
        self.widths = grid(widths)
        self.example_input = example_input.detach().cpu().clone()
        self._shapes = {name: tuple(t.shape) for name, t in [*full.named_parameters(), *full.named_buffers()]}
        self._parameter_names = frozenset(name for name, _ in full.named_parameters())
        self._statistics_names = frozenset(norm.statistics(full))
        self.has_statistics = bool(self._statistics_names)
        self.structure = resolve(trace(meta_copy(full), self.example_input, RULES))
        self.banks, self.affines = norm.Banks(), norm.Affines()
        if affine not in ("shared", "private"):
            raise InputError(f"affine: {affine!r} is unknown; choose 'shared' or 'private'")
        self._private = frozenset(norm.affine(full)) if affine == "private" else frozenset()
        if affine == "private" and not self._private:
            raise InputError(
                "affine: 'private' needs batch or instance norms with affine parameters; this network has none"
            )
        self._derived = _Derived()
        for sizes in map(self.structure.sizes, self.widths if self._private else ()):
            if sizes != self.structure.sizes(1.0):
                self.affines.add(sizes, self._leading_affine(sizes))
        for width in self.widths:
            if not self._is_full(width):
                narrow = self._narrow(width)
                if self.has_statistics:
                    self._bank(narrow)

    def forward(self, x: Any, width: Width = 1.0) -> Any:
        """Compute with the network of a width.

        Args:
            x: The network's input.
            width: Share of the channels, or of each layer's, between the smallest width of the grid and 1.

        Raises:
            InputError: When the width is out of range, or in evaluation when its statistics have seen no data.
        """
        if self._is_full(width):
            return self.full(x)
        narrow = self._narrow(width)
        statistics = self._training_statistics(narrow) if self.full.training else self._statistics(narrow, width)
        return narrow.skeleton(x, self._lend(narrow, statistics))

    def plan(self, width: Width) -> SlicePlan:
        """Return what a width takes of each parameter of ``full``; nothing of those that it has of its own.

        Args:
            width: Share of the channels, or of each layer's, between the smallest width of the grid and 1.

        Raises:
            InputError: When the width is out of range.
        """
        return self._plan(self._sizes(width))

    def extract(self, width: Width, *, fresh_statistics: bool = False) -> nn.Module:
        """Return the network of a width as an ordinary module that shares nothing with this one.

        In evaluation it computes, to the bit, what this model computes at that width.

        Args:
            width: Share of the channels, or of each layer's, between the smallest width of the grid and 1.
            fresh_statistics: Reset the running statistics, for a network that will be trained on; by default
                those of the width are handed out, and must have seen data.

        Raises:
            InputError: When the width is out of range or its statistics have seen no data.
        """
        narrow = self._narrow(width)
        own = self._own_tensors()
        owned = self._plan(narrow.sizes).extract(own) | narrow.buffers.extract(own)
        owned |= {name: t.detach().clone() for name, t in self.affines.get(narrow.sizes).items()}
        if fresh_statistics:
            owned |= self._fresh_statistics(narrow)
        elif self._is_full(width):
            owned |= narrow.statistics.extract(own)
        else:
            owned |= {name: t.clone() for name, t in self._statistics(narrow, width).items()}
        module = filled_copy(narrow.skeleton.module, owned)
        for part, twin in zip(module.modules(), self.full.modules(), strict=True):
            part.training = twin.training
        return module

    def has(self, width: Width) -> bool:
        """Return whether the network can have a width, which is proven by a dry run.

        Args:
            width: Share of the channels, or of each layer's, between the smallest width of the grid and 1.
        """
        sizes = self._sizes(width)
        return self._is_full(width) or sizes in self._derived.narrow or self._build(sizes) is None

    def distinct_widths(self, low: float | None = None) -> tuple[float, ...]:
        """Return one width per distinct sub-network, ascending, each the largest of its sub-network.

        Args:
            low: Where to start; by default, and at least, the smallest width of the grid.
        """
        start = self.widths[-1] if low is None else low
        self._check(start)
        points = reversed(self.widths) if self._private else self.structure.breakpoints
        return tuple(point for point in points if point >= start)

    def widths_between(self, narrow: float, wide: float) -> dict[float, dict[str, float]]:
        """Return the shares of layers on the way from one width to a wider one, which widens one layer after another.

        Args:
            narrow: A width, at least the smallest width of the grid.
            wide: A wider one, at most 1.

        Returns:
            What lies between the two and is no width of all layers. All of it nests, and each has a number between
            ``narrow`` and ``wide`` that grows with it. With private affine parameters there is nothing between.

        Example:
            >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
            >>> SlimmableModel(net, [1, 0.5], torch.zeros(1, 4)).widths_between(0.5, 0.75)
            {0.625: {'0': 0.75, '2': 0.5}}
        """
        self._check(narrow)
        self._check(wide)
        return {} if self._private else self.structure.between(narrow, wide)

    def describe(self) -> str:
        """Return a table of what can become narrower: the channels of each axis at each width of the grid."""
        header = ["layer", "unit", *(f"{width:g}" for width in self.widths)]
        columns = [self.structure.sizes(width) for width in self.widths]
        rows = [
            [axis.name, str(axis.unit), *(str(column[number]) for column in columns)]
            for number, axis in enumerate(self.structure.axes)
        ]
        rows.append(["parameters", "", *(f"{self._numel(width):,}" for width in self.widths)])
        spans = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        lines = []
        for row in [header, *rows]:
            first, *others = zip(row, spans, strict=True)
            lines.append([first[0].ljust(first[1]), *(cell.rjust(span) for cell, span in others)])
        return "\n".join("  ".join(line) for line in lines)

    @torch.no_grad()
    def recalibrate(self, batches: Iterable[Tensor], widths: Iterable[Width] | None = None) -> None:
        """Compute the running statistics of the norm layers anew, for each width from the same batches.

        Each statistic becomes the plain average over the batches. Everything but the norm layers computes as in
        evaluation, no weight changes, and all modes are afterwards as before.

        Args:
            batches: Network inputs, walked through once.
            widths: Widths to recalibrate; by default those of the grid.

        Raises:
            InputError: When a width is out of range, or there was no batch.
        """
        chosen = {self._sizes(width): width for width in (self.widths if widths is None else widths)}
        if not self.has_statistics:
            return
        walk = iter(batches)
        first = next(walk, None)
        if first is None:
            raise InputError("batches: recalibration needs at least one batch of inputs, and there was none")
        full = [self.full for width in chosen.values() if self._is_full(width)]
        narrow = [self._narrow(width) for width in chosen.values() if not self._is_full(width)]
        statistics = [self._training_statistics(part) for part in narrow]
        for tensors in [*map(norm.statistics, full), *statistics]:
            norm.reset(tensors)
        with ExitStack() as modes:
            for module in (self.full, *(part.skeleton.module for part in narrow)):
                modes.enter_context(norm.cumulative(module))
            for batch in chain([first], walk):
                for network in full:
                    network(batch)
                for part, own in zip(narrow, statistics, strict=True):
                    part.skeleton(batch, self._lend(part, own))

    @torch.no_grad()
    def forget(self) -> None:
        """Let all that is private to the narrow widths start anew, as after construction, from the full network."""
        self.banks.forget()
        for sizes in map(self._sizes, self.widths):
            own = self.affines.get(sizes)
            for name, tensor in self._leading_affine(sizes).items() if own else ():
                own[name].copy_(tensor)

    # ---- what is made on demand -----------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_derived": _Derived()}

    def _check(self, width: Width) -> None:
        layers = list(dict.fromkeys(axis.name for axis in self.structure.axes))
        for layer, kept in width.items() if isinstance(width, Mapping) else [(None, width)]:
            place = "" if layer is None else f" for layer {layer!r}"
            if layer is not None and layer not in layers:
                raise InputError(f"width: {kept}{place} names no layer that can become narrower; those are {layers}")
            if not self.widths[-1] <= kept <= 1.0:
                least = f"{self.widths[-1]:g}"
                raise InputError(f"width: {kept}{place} is outside [{least}, 1], the range this network is made for")

    def _sizes(self, width: Width) -> tuple[int, ...]:
        """Return what a width keeps of each axis; all that is made for a width is found by it."""
        if not isinstance(width, Mapping) and width in self._derived.sizes:
            return self._derived.sizes[width]
        self._check(width)
        sizes = self.structure.sizes(width)
        if self._private and sizes != self.structure.sizes(1.0) and not self.affines.get(sizes):
            raise InputError(
                f"width: {width} has no affine parameters of its own, only the grid {list(self.widths)} has; "
                "ask for one of these, or make the model with affine='shared'"
            )
        if not isinstance(width, Mapping):
            self._derived.sizes[width] = sizes
        return sizes

    def _is_full(self, width: Width) -> bool:
        return self._sizes(width) == self._sizes(1.0)

    def _numel(self, width: Width) -> int:
        own = self.affines.get(self._sizes(width)).values()
        return self.plan(width).numel() + sum(tensor.numel() for tensor in own)

    def _plan(self, sizes: tuple[int, ...]) -> SlicePlan:
        if sizes not in self._derived.plans:
            names = self._parameter_names - self.affines.get(sizes).keys()
            shapes = {name: shape for name, shape in self._shapes.items() if name in names}
            self._derived.plans[sizes] = self.structure.plan(sizes, shapes)
        return self._derived.plans[sizes]

    def _narrow(self, width: Width) -> _Narrow:
        """Return the sub-network of a width, made and proven on first use."""
        sizes = self._sizes(width)
        if sizes not in self._derived.narrow:
            reason = self._build(sizes)
            if reason is not None:
                raise InputError(f"width: this network cannot have {width}: {reason}. {self._nearest(width)}")
        return self._derived.narrow[sizes]

    def _build(self, sizes: tuple[int, ...]) -> str | None:
        """Make a sub-network and return None, or the reason why it cannot exist."""
        skeleton = narrow_copy(self._blank(), self.structure.plan(sizes, self._shapes), self.structure.heads_at(sizes))
        shape = tuple(self.example_input.shape)
        try:
            reason = self.structure.misaligned(sizes, trace(skeleton, self.example_input, RULES))
        except InputError as error:
            reason = str(error).removeprefix(f"example_input: the network cannot run on shape {shape}; ")
        if reason is None:
            others = self._shapes.keys() - self._parameter_names - self._statistics_names
            self._derived.narrow[sizes] = _Narrow(
                Borrower(skeleton, self.full),
                self.structure.plan(sizes, {name: self._shapes[name] for name in others}),
                self.structure.plan(sizes, {name: self._shapes[name] for name in self._statistics_names}),
                sizes,
            )
        return reason

    def _nearest(self, width: Width) -> str:
        """Return a sentence with the nearest widths of all layers, below and above, that the network can have."""
        shares = list(width.values()) if isinstance(width, Mapping) else [width]
        points = self.structure.breakpoints
        below = [point for point in reversed(points) if self.widths[-1] <= point < max(shares)]
        above = [point for point in points if point > max(shares)]
        legal = []
        for side in (below, above):
            some = side[:: 1 + len(side) // 24]  # proving each of them costs a dry run
            fits = (point for point in some if point == 1.0 or self._build(self.structure.sizes(point)) is None)
            legal += [f"{point:.6g}" for point in [next(fits, None)] if point is not None]
        return f"Widths nearby that it can have: {', '.join(legal) or 'only 1'}."

    def _lend(self, narrow: _Narrow, statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors that a skeleton computes with: parts of the full ones, and what is private to a width."""
        own = self._own_tensors()
        tensors = lend(self._plan(narrow.sizes), own)
        if narrow.buffers.indices:
            tensors.update(narrow.buffers.take(own))
        tensors.update(statistics)
        tensors.update(self.affines.get(narrow.sizes))
        return tensors

    def _training_statistics(self, narrow: _Narrow) -> Mapping[str, Tensor]:
        """Return the statistics of a sub-network, which data are about to go into."""
        if not self.has_statistics:
            return {}
        bank = self._bank(narrow)
        bank.seen = True
        return bank.named

    def _statistics(self, narrow: _Narrow, width: Width) -> Mapping[str, Tensor]:
        """Return the statistics of a sub-network, which must have seen data."""
        if not self.has_statistics:
            return {}
        known = self.banks.get(narrow.sizes)
        if known is None or not (known.seen or self._is_new()):
            raise InputError(
                f"width: the norm statistics of width {width} have seen no data; call "
                "recalibrate(batches, widths=[...]) before evaluating or handing out this width"
            )
        return known.named

    def _is_new(self) -> bool:
        """Return whether no data have gone into the full network's statistics either."""
        tracked = (t for n, t in norm.statistics(self.full).items() if n.endswith("num_batches_tracked"))
        return all(int(count) == 0 for count in tracked)

    def _bank(self, narrow: _Narrow) -> norm.Bank:
        """Return the statistics of a sub-network, fresh ones if it has none yet."""
        known = self.banks.get(narrow.sizes)
        if known is not None:
            return known
        bank = norm.Bank(self._fresh_statistics(narrow))
        self.banks.add(narrow.sizes, bank)
        return bank

    def _fresh_statistics(self, narrow: _Narrow) -> dict[str, Tensor]:
        """Return the statistics of a sub-network that has seen nothing, on the full network's device."""
        own = self._own_tensors()
        fresh = {name: own[name].new_empty(shape) for name, shape in narrow.statistics.shapes.items()}
        norm.reset(fresh)
        return fresh

    def _leading_affine(self, sizes: tuple[int, ...]) -> dict[str, nn.Parameter]:
        """Return copies of the leading part of the full network's affine parameters, which private ones start as."""
        own = {name: self.full.get_parameter(name) for name in sorted(self._private)}
        parts = self.structure.plan(sizes, {name: self._shapes[name] for name in own}).extract(own)
        return {name: nn.Parameter(part, own[name].requires_grad) for name, part in parts.items()}

    def _own_tensors(self) -> dict[str, Tensor]:
        """Return the full network's parameters and buffers by name, through references made once."""
        if self._derived.references is None:
            self._derived.references = [
                (f"{path}.{key}" if path else key, store, key)
                for path, part in self.full.named_modules()
                for store in (part._parameters, part._buffers)
                for key in store
                if (f"{path}.{key}" if path else key) in self._shapes
            ]
        return {name: store[key] for name, store, key in self._derived.references}

    def _blank(self) -> nn.Module:
        """Return the full network's skeleton."""
        if self._derived.blank is None:
            self._derived.blank = meta_copy(self.full)
        return self._derived.blank
