"""Rules of operations that move data, most of which are simply applied to the labels, or write by position."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from aequa_lightning.slimmable.tracing.labels import ALWAYS, Labels, compact, labels_from, varying
from aequa_lightning.slimmable.tracing.trace import Call, Result, Rule, Tracer


def _moving(t: Tracer, call: Call) -> Result:
    """Run the operation on the labels of its tensors; whole numbers among them say where to, and stay as they are."""
    data = [x for x in call.tensors if x.is_floating_point() or x.is_complex() or x is call.args[0]]
    places = [t.labels_of(x) for x in call.tensors if not any(x is y for y in data)]
    t.keep_all(places, f"says where {t.place(call.name)} looks")
    operands = [t.labels_of(x) for x in data]
    if not all(labels.constant for labels in places):
        _keep_looked_up(t, call, operands[0])
    outputs: list[list[Tensor]] = []
    for number in range(max(len(labels.factors) for labels in operands)):
        before = [labels.full(number) for labels in operands]
        substitute = {id(x): label for x, label in zip(data, before, strict=True)}
        moved = _on_labels(call, substitute)
        for place, label in enumerate(moved):
            outputs.extend([[]] if len(outputs) <= place else [])
            outputs[place].append(label)
    out = t.moved(call)
    leaves = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
    labels = [labels_from(leaf.shape, factors) for leaf, factors in zip(leaves, outputs, strict=False)]
    if not labels:
        constant = all(its.constant for its in operands)
        labels = [Labels(tuple(leaf.shape), constant=constant) for leaf in leaves]
    if len(data) == 1:
        labels = _repeated(call, operands[0], labels)
    if call.name in _CUTS:
        for its in labels:
            t.record_part(operands[0].factors, its.factors)
    if call.name == "constant_pad_nd":
        return t.masked_result(call, out, labels[0])
    return out, labels


def _repeated(call: Call, before: Labels, after: list[Labels]) -> list[Labels]:
    """Return labels with the dimensions along which the tensors are repeated."""
    if before.copies is not None:
        moved = _on_labels(call, {id(call.args[0]): before.copies.expand(before.shape)})
        after = [replace(its, copies=compact(copies)) for its, copies in zip(after, moved, strict=True)]
    if call.name not in ("expand", "repeat"):
        return after
    (its,) = after
    ndim = len(its.shape)
    sizes = (1,) * (ndim - len(before.shape)) + before.shape
    copies = torch.ones((1,) * ndim) if its.copies is None else its.copies
    for dim, (one, size) in enumerate(zip(sizes, its.shape, strict=True)):
        if one == 1 < size:
            column = torch.arange(size).view([-1 if other == dim else 1 for other in range(ndim)])
            copies = copies + (copies.max() + 1) * column
    return [its if copies.numel() == 1 else replace(its, copies=copies)]


def _keep_looked_up(t: Tracer, call: Call, labels: Labels) -> None:
    """Keep the channels that are looked up at positions from elsewhere, which do not follow a width."""
    dims = positions_of(call)
    for factor in labels.factors:
        if varying(factor) & dims:
            t.keep(factor, f"is looked up by position at {t.place(call.name)}")
            if t.is_parameter(call.args[0]):
                t.record_read(factor)


def _as_complex(t: Tracer, call: Call) -> Result:
    """The last dimension holds the real and the imaginary part, which are kept together."""
    labels = t.tie_groups(t.labels_of(call.args[0]), [-1], call.name)
    factors = []
    for factor in labels.factors:
        if factor.shape[-1] > 1:
            t.keep(factor, f"is a part of a number at {t.place(call.name)}")
        else:
            factors.append(factor.squeeze(-1))
    return t.moved(call), [Labels(labels.shape[:-1], tuple(factors), labels.constant)]


def _as_real(t: Tracer, call: Call) -> Result:
    labels = t.labels_of(call.args[0])
    return t.moved(call), [
        Labels((*labels.shape, 2), tuple(factor.unsqueeze(-1) for factor in labels.factors), labels.constant)
    ]


def _folded(t: Tracer, call: Call) -> Result:
    """Windows put side by side: the positions of a kernel are kept whole."""
    labels, out = t.labels_of(call.args[0]), t.value(call)
    factors = []
    for factor in labels.factors:
        if varying(factor) == {factor.ndim - 2}:
            windows = factor.unflatten(-2, (out.shape[-3], -1))
            t.tie(windows, windows[..., :1, :], call.name)
            factors.append(windows[..., :1, :])
        else:
            t.keep(factor, f"lies along a dimension that {t.place(call.name)} mixes")
    return t.masked_result(call, out, Labels(tuple(out.shape), tuple(factors), labels.constant))


def _on_labels(call: Call, substitute: dict[int, Tensor]) -> list[Tensor]:
    """Return the results of an operation applied to labels in place of its tensors."""

    def run(change: Callable[[Tensor], Tensor]) -> Any:
        def swap(leaf: Any) -> Any:
            return change(substitute[id(leaf)]) if isinstance(leaf, Tensor) and id(leaf) in substitute else leaf

        kwargs = {k: v for k, v in call.kwargs.items() if k not in ("dtype", "memory_format", "layout", "device")}
        return call.func(*map(swap, call.args), **kwargs)

    if call.name == "constant_pad_nd":
        call = Call(call.func, call.name, call.args[:2], {})
    try:
        moved = run(lambda label: label)
    except RuntimeError:  # a view that the strides of a repeated label do not allow
        moved = run(lambda label: label.contiguous())
    return [leaf for leaf in tree_leaves(moved) if isinstance(leaf, Tensor)]


def _concatenation(t: Tracer, call: Call) -> Result:
    """Channels along the dimension follow each other; along the others the tensors have the same ones."""
    tensors, dim = call.bound["tensors"], call.bound.get("dim", 0)
    stacked = call.name == "stack"
    out = t.moved(call)
    dim %= out.ndim
    parts = [t.labels_of(x) for x in tensors if stacked or x.numel() or x.ndim == out.ndim]
    if stacked:
        parts = [
            Labels((*p.shape[:dim], 1, *p.shape[dim:]), tuple(f.unsqueeze(dim) for f in p.factors), p.constant)
            for p in parts
        ]
    # Where channels of one part vary along the dimension and others, those of the other parts follow them there.
    lengthwise = [f for p in parts for f in p.factors if f.shape[dim] > 1]
    joint = {d for f in lengthwise for d in varying(f)}
    across = [
        Labels(
            tuple(1 if d == dim or d in joint else size for d, size in enumerate(p.shape)),
            tuple(f for f in p.factors if varying(f) and not varying(f) & joint),
            p.constant,
        )
        for p in parts
    ]
    along = [
        Labels(p.shape, tuple(f for f in p.factors if not varying(f) or varying(f) & joint), p.constant) for p in parts
    ]
    shared = t.combine(across, [1 if d == dim or d in joint else size for d, size in enumerate(out.shape)], call.name)
    factors = list(shared.factors)
    for number in range(max(len(p.factors) for p in along)):
        labels = [
            p.full(number) if p.factors or not a.factors or p.constant else torch.full_like(p.full(number), ALWAYS)
            for p, a in zip(along, across, strict=True)
        ]
        factors.append(torch.cat(labels, dim))
    return t.masked_result(call, out, labels_from(out.shape, factors))


def _strided(t: Tracer, call: Call) -> Result:
    x, size, stride = call.args[:3]
    labels = t.labels_of(x)
    if x.untyped_storage().nbytes() != x.numel() * x.element_size():
        return t.mix(call)
    factors = []
    for number in range(len(labels.factors)):
        memory = torch.empty_strided(x.shape, x.stride(), dtype=torch.float).copy_(labels.full(number))
        factors.append(memory.as_strided(size, stride, *call.args[3:]))
    return t.moved(call), [labels_from(size, factors)]


def _embedding(t: Tracer, call: Call) -> Result:
    weight = t.labels_of(call.args[0])
    rows = [factor for factor in weight.factors if factor.shape[0] > 1]
    columns = [factor for factor in weight.factors if factor.shape[1] > 1]
    for factor in rows:
        t.keep(factor, "is a word of an embedding")
        t.record_read(factor)
    out = t.value(call)
    first = out if isinstance(out, Tensor) else out[0]
    labels = labels_from(first.shape, [factor.view((1,) * (first.ndim - 1) + (-1,)) for factor in columns])
    rest = [Labels(tuple(leaf.shape)) for leaf in tree_leaves(out)[1:] if isinstance(leaf, Tensor)]
    settled, _ = t.masked_result(call, out, labels)
    return settled, [labels, *rest]


def _packed(t: Tracer, call: Call) -> Result:
    """Sequences of unequal length one after another: only the last dimension has channels."""
    x = t.labels_of(call.args[0])
    out = t.moved(call)
    factors = []
    for factor in x.factors:
        if varying(factor) == {len(x.shape) - 1}:
            factors.append(factor.reshape(1, -1))
        else:
            t.keep(factor, f"varies along a sequence at {t.place(call.name)}")
    return out, [labels_from(out[0].shape, factors), Labels(tuple(out[1].shape), constant=True)]


def positions_of(call: Call) -> set[int]:
    """Return the dimensions of the first argument along which an operation reads or writes by position."""
    if call.name not in ("index", "index_put"):
        return {int(call.bound["dim"]) % call.args[0].ndim} if "dim" in call.bound else set()
    dims: set[int] = set()
    dim = 0
    for index in call.args[1]:
        count = index.ndim if index is not None and index.dtype in (torch.bool, torch.uint8) else 1
        dims |= set() if index is None else set(range(dim, dim + count))
        dim += count
    return dims


def _writing(t: Tracer, call: Call) -> Result:
    """Combine the values with the tensor that they are written to, along all dimensions but those of the positions."""
    x, dims = call.args[0], positions_of(call)
    listed = call.name == "index_put"  # its values have the dimensions of the index first, and then those of ``x``
    source = call.args[2] if listed else call.bound.get("src", call.bound.get("source"))
    if not isinstance(source, Tensor) or (listed and dims != set(range(len(dims)))):
        return t.mix(call)
    places = [t.labels_of(y) for y in call.tensors if y is not x and y is not source]
    t.keep_all(places, f"says where {t.place(call.name)} writes")
    lead = max(0, source.ndim - x.ndim + len(dims)) if listed else 0
    there, values = _along_others(t, call, t.labels_of(x), dims), t.labels_of(source)
    values = _along_others(t, call, values, range(lead) if listed else dims)
    values = Labels(values.shape[lead:], tuple(f.reshape(f.shape[lead:]) for f in values.factors), values.constant)
    met = t.combine([there, values], there.shape, call.name)
    return t.masked_result(call, t.value(call), Labels(tuple(x.shape), met.factors, met.constant))


def keep_along(t: Tracer, labels: Labels, dims: Collection[int], reason: str) -> Labels:
    """Return labels without the channels that vary along some dimensions, which are kept whole for the reason."""
    factors = []
    for factor in labels.factors:
        if varying(factor) & set(dims):
            t.keep(factor, reason)
        else:
            factors.append(factor)
    return Labels(labels.shape, tuple(factors), labels.constant)


def _along_others(t: Tracer, call: Call, labels: Labels, dims: Collection[int]) -> Labels:
    """Return labels with size 1 along some dimensions; channels that vary there are kept."""
    left = keep_along(t, labels, dims, f"lies along a dimension that {t.place(call.name)} writes to by position")
    shape = tuple(1 if dim in dims else size for dim, size in enumerate(labels.shape))
    return Labels(shape, left.factors, left.constant)


_MOVES = """
    view _unsafe_view reshape _reshape_alias permute transpose t expand squeeze unsqueeze slice select split
    split_with_sizes unsafe_split unsafe_split_with_sizes chunk unbind narrow index index_select gather flip roll repeat
    repeat_interleave pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle unfold im2col constant_pad_nd
    alias detach diagonal rot90 tile movedim swapaxes lift_fresh
""".split()  # noqa: SIM905
_CUTS = frozenset(["slice", "select", "split", "split_with_sizes", "unsafe_split", "chunk", "unbind", "narrow"])
_WRITES = ["index_put", "index_add", "index_copy", "index_reduce", "scatter", "scatter_add", "scatter_reduce"]

MOVEMENTS: dict[str, Rule] = {
    **dict.fromkeys(_MOVES, _moving),
    **dict.fromkeys(["cat", "stack"], _concatenation),
    **dict.fromkeys(_WRITES, _writing),
    **dict.fromkeys(["embedding", "_embedding_bag", "_embedding_bag_forward_only"], _embedding),
    "as_strided": _strided,
    "col2im": _folded,
    "view_as_complex": _as_complex,
    "view_as_real": _as_real,
    "_pack_padded_sequence": _packed,
}
"""The rule of each operation that moves data, or writes to positions of a tensor."""
