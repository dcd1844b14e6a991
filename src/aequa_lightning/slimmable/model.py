"""SlimmableModel: runs, trains and extracts any width of an ordinary network."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import norm
from aequa_lightning.slimmable.borrowed_slices import borrow_slices
from aequa_lightning.slimmable.compiling import Compiler
from aequa_lightning.slimmable.plan import SlicePlan
from aequa_lightning.slimmable.subnetworks import SubNetwork, SubNetworks
from aequa_lightning.slimmable.tracing.skeleton import filled_copy
from aequa_lightning.slimmable.width_statistics import Affines, WidthStatistics, fresh_statistics_of
from aequa_lightning.slimmable.widths import Width, grid


class SlimmableModel(nn.Module):
    """A plain network that can be run, trained and handed out at any width.

    The full network stays unchanged; a narrow width computes with the leading part of every layer, through a skeleton
    of the narrow shapes that borrows slices of the full weights during one forward. The width is an argument and no
    state of the model.

    Args:
        full: Any network made of torch's layers. It is not copied.
        widths: The grid that training draws from: shares in (0, 1] with 1 among them. Their smallest is the smallest
            width that can be asked for; between it and 1 any width can. Wherever a width is asked for, shares of single
            layers can be too: by the names that :meth:`describe` shows, where layers that are not named stay whole.
        example_input: A batch (one sample is enough) of inputs of the expected size.
        affine: ``"shared"``: all widths share the weights and biases of batch and instance norms with ``full``.
            ``"private"``: every width of the grid has its own, and there are no other widths.
        verify: Check each new width numerically: with random weights it must compute what the full network computes
            with zeros for all channels that the width lacks. It takes a dry run a width, which matters only where
            thousands of models are made; labels of channels are compared in any case.
        only: Names of the layers whose channels a width may cut, or patterns as in file names, such as ``"*lora_A*"``
            for the ranks of adapters; None: all layers. All others stay whole.

    Attributes:
        full: The full network.
        widths: The grid, descending from 1.
        structure: How widths cut the network.
        has_statistics: Whether any norm layer keeps running statistics.

    Raises:
        InputError: When a width is no share in (0, 1], the network's structure cannot follow a width of the grid,
            ``affine`` is private but no norm has parameters, ``only`` names no layer that can become narrower, or
            single norm layers are in evaluation mode.

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
        verify: bool = True,
        only: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.full = full
        self.widths = grid(widths)
        self.example_input = example_input.detach().cpu().clone()
        self._private = norm.private_names(full, affine)
        self._networks = SubNetworks(
            full, self.example_input, self.widths, private=self._private, verify=verify, only=only
        )
        self.structure = self._networks.structure
        self._compiler: Compiler | None = None
        self.has_statistics = bool(norm.statistics(full))
        if full.training:
            # A network that is in evaluation mode as a whole can still be put into training mode later.
            norm.check_modes(full)
        self.statistics, self.affines = WidthStatistics(), Affines()
        own = self._networks.tensors()
        for narrow in self._narrow():
            if self.has_statistics:
                self.statistics.get_or_add(narrow, own)
            if self._private:
                self.affines.add(narrow, own)

    def forward(self, x: Any, width: Width = 1.0) -> Any:
        """Compute with the network of a width.

        Args:
            x: The network's input.
            width: Share of the channels, or of each layer's, between the smallest width of the grid and 1.

        Raises:
            InputError: When the width is out of range, or in evaluation when its statistics have seen no data.
        """
        if self._networks.is_full(width):
            return self._run(self.full, width)(x)
        narrow = self._networks.at(width)
        own = self._networks.tensors()
        if self.full.training:
            statistics = self.statistics.for_update(narrow, own)
        else:
            statistics = self.statistics.for_evaluation(narrow, own, width)
        tensors = self._narrow_tensors(narrow, own, statistics)
        return narrow.skeleton(x, tensors, self._run(narrow.skeleton.module, width))

    def compile(self, *args: Any, **options: Any) -> None:
        """Let the widths of the grid train through compiled forms, each made when its width first trains.

        Evaluation and widths outside the grid stay uncompiled. Outputs and gradients are those of the uncompiled
        network, up to rounding and to the random numbers that dropout draws. Call it after the model has been moved to
        its device.

        Args:
            *args: None; the signature is that of ``nn.Module.compile``.
            **options: Of ``torch.compile``.

        Raises:
            InputError: When nothing can be compiled here.
        """
        device = next(self.parameters()).device
        self._compiler = Compiler(len(self.widths), *args, device=device, options=options)

    def functional(self, width: Width = 1.0) -> Callable[[Mapping[str, Tensor], Any], Any]:
        """Return the network of a width as a function of the full network's parameters and the input.

        ``torch.func.vmap`` maps the function over a stack of parameters. Norm layers that keep running statistics
        compute with those of the batch and keep nothing, so that such a network is a function in training only.

        Args:
            width: Share of the channels, or of each layer's, between the smallest width of the grid and 1.

        Returns:
            Called with tensors for parameters of ``full``, by name, and the network's input. Other parameters, and
            private ones of the width, have their present values.

        Raises:
            InputError: When the width is out of range.

        Example:
            >>> slim = SlimmableModel(nn.Linear(1, 1, bias=False), [1], torch.zeros(1, 1))
            >>> slim.functional()({"weight": torch.full((1, 1), 5.0)}, torch.ones(1, 1)).item()
            5.0
        """
        narrow, own = self._networks.at(width), self._networks.tensors()
        private = {**narrow.buffers.take(own), **self.affines.get(narrow.sizes)}
        none = dict.fromkeys(narrow.statistics.indices)

        def compute(tensors: Mapping[str, Tensor], x: Any) -> Any:
            if none and not self.full.training:
                raise InputError("width: in evaluation a network with running statistics is no function of the others")
            given = {**own, **tensors}
            # Slices are made contiguous; whole tensors keep the memory layout of the caller.
            parts = {
                name: part if part is given[name] else part.clone()
                for name, part in narrow.parameters.take(given).items()
            }
            return narrow.skeleton(x, {**parts, **private, **none})

        return compute

    def plan(self, width: Width) -> SlicePlan:
        """Return a width's part of each parameter of ``full``, without those that are private to it.

        Args:
            width: Share of the channels, or of each layer's, between the smallest width of the grid and 1.

        Raises:
            InputError: When the width is out of range.
        """
        return self._networks.plan(width)

    def extract(self, width: Width, *, fresh_statistics: bool = False) -> nn.Module:
        """Return the network of a width as an ordinary module that shares nothing with this one.

        In evaluation it computes, to the bit, what this model computes at that width.

        Args:
            width: Share of the channels, or of each layer's, between the smallest width of the grid and 1.
            fresh_statistics: Reset the running statistics, for a network that is trained further; by default the
                statistics of the width are copied, and must have seen data.

        Raises:
            InputError: When the width is out of range or its statistics have seen no data.
        """
        narrow = self._networks.at(width)
        own = self._networks.tensors()
        owned = narrow.parameters.extract(own) | narrow.buffers.extract(own)
        owned |= {name: t.detach().clone() for name, t in self.affines.get(narrow.sizes).items()}
        if fresh_statistics:
            owned |= fresh_statistics_of(narrow, own)
        elif self._networks.is_full(width):
            owned |= narrow.statistics.extract(own)
        else:
            owned |= {name: t.clone() for name, t in self.statistics.for_evaluation(narrow, own, width).items()}
        module = filled_copy(narrow.skeleton.module, owned)
        for part, twin in zip(module.modules(), self.full.modules(), strict=True):
            part.training = twin.training
        return module

    def has(self, width: Width) -> bool:
        """Return whether the network can follow a width, which a dry run checks.

        Args:
            width: Share of the channels, or of each layer's, between the smallest width of the grid and 1.
        """
        return self._networks.has(width)

    def distinct_widths(self, low: float | None = None) -> tuple[float, ...]:
        """Return one width per distinct sub-network, ascending, each the largest of its sub-network.

        Args:
            low: Where to start; by default, and at least, the smallest width of the grid.
        """
        start = self.widths[-1] if low is None else low
        self._networks.check(start)
        points = reversed(self.widths) if self._private else self.structure.breakpoints
        return tuple(point for point in points if point >= start)

    def widths_between(self, narrow: float, wide: float) -> dict[float, dict[str, float]]:
        """Return the shares of layers on the way from one width to a wider one, which widens one layer after another.

        Args:
            narrow: A width, at least the smallest width of the grid.
            wide: A wider one, at most 1.

        Returns:
            Shares by layer for each step between the two, by a number between ``narrow`` and ``wide`` that grows with
            them; each contains the one before. Empty with private affine parameters.

        Example:
            >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
            >>> SlimmableModel(net, [1, 0.5], torch.zeros(1, 4)).widths_between(0.5, 0.75)
            {0.625: {'0': 0.75, '2': 0.5}}
        """
        self._networks.check(narrow)
        self._networks.check(wide)
        return {} if self._private else self.structure.between(narrow, wide)

    def describe(self) -> str:
        """Return a table of the axes: the channels of each at each width of the grid, and the parameters."""
        return self.structure.describe({width: self._networks.numel(width) for width in self.widths})

    @torch.no_grad()
    def recalibrate(self, batches: Iterable[Tensor], widths: Iterable[Width] | None = None) -> None:
        """Compute the running statistics of the norm layers anew, for each width from the same batches.

        Each statistic becomes the plain average over the batches. Everything but the norm layers computes as in
        evaluation, no weight changes, and all modes are restored afterwards. A batch of a single sample joins its
        neighbour; if there is only one sample in all, it is given twice.

        Args:
            batches: Network inputs, iterated over once.
            widths: Widths to recalibrate; by default those of the grid.

        Raises:
            InputError: When a width is out of range, or there was no batch.
        """
        chosen = {self._networks.sizes(width): width for width in (self.widths if widths is None else widths)}
        if not self.has_statistics:
            return
        walk = norm.without_single_samples(batches)
        first = next(walk, None)
        if first is None:
            raise InputError("batches: recalibration needs at least one batch of inputs, and there was none")
        full = [self.full for width in chosen.values() if self._networks.is_full(width)]
        narrow = [self._networks.at(width) for width in chosen.values() if not self._networks.is_full(width)]
        own = self._networks.tensors()
        statistics = [self.statistics.for_update(part, own) for part in narrow]
        for tensors in [*map(norm.statistics, full), *statistics]:
            norm.reset(tensors)
        with ExitStack() as modes:
            for module in (self.full, *(part.skeleton.module for part in narrow)):
                modes.enter_context(norm.averaging_statistics(module))
            for batch in chain([first], walk):
                for network in full:
                    network(batch)
                for part, kept in zip(narrow, statistics, strict=True):
                    part.skeleton(batch, self._narrow_tensors(part, own, kept))

    @torch.no_grad()
    def reset_private(self) -> None:
        """Reset the statistics and private parameters of narrow widths to those of a new model."""
        self.statistics.reset()
        own = self._networks.tensors()
        for narrow in self._narrow():
            start = narrow.private.take(own)
            for name, tensor in self.affines.get(narrow.sizes).items():
                tensor.copy_(start[name])

    def _narrow(self) -> list[SubNetwork]:
        """Return the sub-networks of the grid's widths below the full one."""
        return [self._networks.at(width) for width in self.widths if not self._networks.is_full(width)]

    def _run(self, network: nn.Module, width: Width) -> Callable[[Any], Any]:
        """Return the network of a width to call: itself, or its compiled form."""
        if self._compiler is None or not (self.full.training and torch.is_grad_enabled()) or width not in self.widths:
            return network
        return self._compiler.compiled(network, self._networks.sizes(width))

    def _narrow_tensors(
        self, narrow: SubNetwork, own: Mapping[str, Tensor], statistics: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the tensors of a narrow skeleton: slices of the full network's, statistics and private parameters."""
        tensors = borrow_slices(narrow.parameters, own)
        if narrow.buffers.indices:
            tensors.update(narrow.buffers.take(own))
        tensors.update(statistics)
        tensors.update(self.affines.get(narrow.sizes))
        return tensors
