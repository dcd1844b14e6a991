"""The tracer: a dispatch mode that passes labels of channels through every operation of a dry run.

Every element of an activation carries labels that say which channels must be kept for it to exist (``labels.py``). The
tracer sees operations where PyTorch dispatches them to kernels, so that it does not matter how a network is written:
there are some hundred basic operations, for which ``operations.py`` has rules. A run collects constraints on the
channels (``constraints.py``): channels that are kept together, and channels that are always kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable.tracing.constraints import OUTPUT, Constraints, Numbers, Trace
from aequa_lightning.slimmable.tracing.labels import Labels, labels_from, parameter_labels
from aequa_lightning.slimmable.tracing.probe import compute, structure_mode, to_double

Result = tuple[Any, list[Labels]]
"""An operation's result, and the labels of each tensor in it."""


@dataclass(frozen=True)
class Call:
    """One operation and its arguments."""

    func: Any
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @staticmethod
    def of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Call":
        """Return a call under its operation's plain name, without namespace and the underscore of in-place forms."""
        name = func._schema.name.split("::")[-1]
        return Call(func, name.rstrip("_") if not name.endswith("__") else name, args, kwargs)

    @cached_property
    def in_place(self) -> bool:
        """Whether the operation writes into its first argument."""
        return bool(self.func._schema.name.endswith("_"))

    @cached_property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]

    @cached_property
    def bound(self) -> dict[str, Any]:
        """The arguments by the names of the schema, with defaults."""
        schema = self.func._schema.arguments
        given = dict(zip((argument.name for argument in schema), self.args, strict=False)) | self.kwargs
        defaults = {a.name: a.default_value for a in schema if a.has_default_value()}
        return defaults | given


Rule = Callable[["Tracer", Call], Result]
"""Computes a call; returns its result and the labels of each tensor in the result."""


class Tracer(Constraints, TorchDispatchMode):
    """Passes labels through the operations of a dry run and collects constraints.

    Args:
        network: Runs in double precision.
        numbers: The channels of its parameters and buffers.
        rules: Returns the rule of an operation.
        exists: For each label, whether its channel is kept: elements that do not exist are then set to zero, and means,
            norms and the like are taken over those that exist. None: the network runs unchanged.
        record: Keep the values of all steps.
        products: Compute matrix products. Otherwise their results are zeros of the right shape, which saves most of the
            time: labels do not depend on values.
    """

    def __init__(
        self,
        network: nn.Module,
        numbers: Numbers,
        rules: Callable[[Call], Rule],
        *,
        exists: Tensor | None = None,
        record: bool = False,
        products: bool = True,
    ) -> None:
        super().__init__(network, numbers)
        self.exists = exists
        self._rules, self._record, self._products = rules, record, products
        self._table: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        # Parameters and views of them, whose missing elements are not zero.
        self._raw: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._written: dict[int, tuple[Any, Tensor]] = {}
        self._names: dict[int, str] = {}
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            self._names[id(tensor)] = name
            self._table[tensor] = parameter_labels(numbers.get(name, ()), tensor.shape)
            self._raw[tensor] = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        call = Call.of(func, args, kwargs or {})
        operands = [self.labels_of(tensor) for tensor in call.tensors]
        if all(labels.constant for labels in operands):
            return compute(func, call.name, args, call.kwargs)
        self.found.steps.append((self.place(call.name), operands))
        out, labels = self._rules(call)(self, call)
        results = [out] if isinstance(out, Tensor) else [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        for tensor, its in zip(results, labels, strict=False):
            if call.in_place and its.factors and self.labels_of(tensor).constant:
                self._write(tensor, its)
            else:
                self._table[tensor] = its
            if self._record:
                self.found.record.append((self.place(call.name), self.where(), tensor.detach().clone(), its))
        return out

    # ---- labels and values ------------------------------------------------------------------------------

    def labels_of(self, tensor: Tensor) -> Labels:
        """Return the labels of a tensor; unknown ones are constants that the network's code makes."""
        name = self._names.get(id(tensor))
        if name is not None:
            self.found.used.setdefault(name)
        known: Labels | None = self._table.get(tensor)
        if known is not None and known.shape == tuple(tensor.shape):
            return known
        if self._written and tensor.layout == torch.strided:
            stored = self._written.get(tensor.untyped_storage()._cdata)
            if stored is not None:
                view = stored[1].as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
                return labels_from(tensor.shape, [view])
        return known or Labels(tuple(tensor.shape), constant=True)

    def _write(self, tensor: Tensor, labels: Labels) -> None:
        """Record labels written into memory that the network's code allocated, for all views of that memory."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._written:
            size = storage.nbytes() // tensor.element_size()
            self._written[storage._cdata] = (storage, torch.zeros(size, dtype=torch.float))
        memory = self._written[storage._cdata][1]
        memory.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).copy_(labels.full(0))
        for further in labels.factors[1:]:
            self.keep(further, f"is written into other memory in {self.place()}")

    def value(self, call: Call) -> Any:
        """Compute a call, with zeros for all elements of parameters that the width does not keep."""
        if self.exists is None or not any(tensor in self._raw for tensor in call.tensors):
            return compute(call.func, call.name, call.args, call.kwargs)
        args, kwargs = tree_map(self.masked, (call.args, call.kwargs))
        return compute(call.func, call.name, args, kwargs)

    def product(self, call: Call) -> Any:
        """Compute a matrix product or a convolution, if this run computes them."""
        if self._products:
            return self.value(call)
        args = tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, Tensor) else leaf, call.args)
        blank = call.func(*args, **call.kwargs)
        return to_double(torch.zeros(blank.shape, dtype=blank.dtype))

    def masked(self, leaf: Any) -> Any:
        """Return an argument, with zeros for all elements of a parameter that the width does not keep."""
        return (
            self.only_existing(leaf, self.labels_of(leaf)) if isinstance(leaf, Tensor) and leaf in self._raw else leaf
        )

    def is_parameter(self, tensor: Tensor) -> bool:
        """Return whether a tensor is a parameter or buffer of the network, or a view of one."""
        return tensor in self._raw

    def moved(self, call: Call) -> Any:
        """Compute a call that only moves data; views of parameters stay as they are."""
        out = compute(call.func, call.name, call.args, call.kwargs)
        if any(tensor in self._raw for tensor in call.tensors):
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor):
                    self._raw[leaf] = True
        return out

    def existing(self, factor: Tensor) -> Tensor:
        """Return where the elements of a factor exist at the width of this run."""
        assert self.exists is not None
        return self.exists[factor.long()]

    def only_existing(self, tensor: Tensor, labels: Labels) -> Tensor:
        """Return a tensor with zeros where its elements do not exist at the width of this run."""
        if self.exists is None:
            return tensor
        for factor in labels.factors:
            mask = self.existing(factor)
            if not bool(mask.all()):
                tensor = tensor.masked_fill(~mask, 0)  # of the same strides, which views rely on
        return tensor

    def masked_result(self, call: Call, out: Any, labels: Labels) -> tuple[Any, list[Labels]]:
        """Return a result whose tensors all have the same labels, with zeros where they do not exist."""
        if self.exists is None or not labels.factors:
            return out, [labels] * len(tree_leaves(out))
        if call.in_place:
            call.args[0].copy_(self.only_existing(call.args[0], labels))
            return call.args[0], [labels]

        def zeroed(leaf: Any) -> Any:
            fits = isinstance(leaf, Tensor) and leaf.shape == labels.shape
            return self.only_existing(leaf, labels) if fits else leaf

        return tree_map(zeroed, out), [labels] * len(tree_leaves(out))

    def enter(self, x: Tensor) -> None:
        """Register the network's input, which has the same size at every width."""
        self._table[x] = Labels(tuple(x.shape))

    def mix(self, call: Call) -> Result:
        """Compute a call without a rule: it may mix channels in any way, so all of them are kept at every width."""
        operands = [self.labels_of(x) for x in call.tensors]
        self.keep_all(
            operands, f"goes through {self.place(call.name)}, which mixes channels in a way that is not known"
        )
        out = self.value(call)
        return out, [Labels(tuple(leaf.shape)) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]


def tensors_of(output: Any) -> list[Tensor]:
    """Return all tensors of a network's output, also in objects that are no pytrees.

    Example:
        >>> len(tensors_of({"a": torch.zeros(1), "b": (torch.zeros(1), None)}))
        2
    """
    found: list[Tensor] = []
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif hasattr(leaf, "__dict__"):
            found += tensors_of(vars(leaf))
    return found


def run(tracer: Tracer, network: nn.Module, x: Tensor) -> Trace:
    """Run a network under a tracer, within :func:`dry_run`, and keep all channels that reach its output.

    Raises:
        InputError: When the network's output holds no tensor.
    """
    tracer.enter(x)
    with structure_mode(network), tracer.naming_modules():
        with tracer:
            output = network(x)
        tracer.found.values = tensors_of(output)
        if not tracer.found.values:
            raise InputError(f"network: its output, a {type(output).__name__}, holds no tensor")
        tracer.found.labels = [tracer.labels_of(tensor) for tensor in tracer.found.values]
        tracer.keep_all(tracer.found.labels, OUTPUT)
    return tracer.found
