"""Rules of matrix products and convolutions: an elementwise product of broadcasting tensors and a sum."""

from collections.abc import Sequence

import torch
from torch import Tensor

from aequa_lightning.slimmable.tracing.labels import FIRST, Labels, is_channel, varying
from aequa_lightning.slimmable.tracing.trace import Call, Result, Rule, Tracer


def _product(first: str, second: str, result: str, *, added: bool = False) -> Rule:
    """Return the rule of a product of two tensors, with a letter for each dimension, as in ``torch.einsum``.

    Args:
        first: The first tensor's dimensions.
        second: The second one's.
        result: The result's. What stands in neither is summed over.
        added: Whether the first argument is added to the product.
    """

    def rule(t: Tracer, call: Call) -> Result:
        out = t.product(call)
        x, y = call.args[added : added + 2]
        summed = sorted(set(first + second) - set(result))
        space = result + "".join(summed)
        sizes = dict(zip(first + second, [*x.shape, *y.shape], strict=True))
        operands = [_placed(t.labels_of(z), letters, space) for z, letters in ((x, first), (y, second))]
        met = t.combine(operands, [sizes[letter] for letter in space], call.name, summed=True)
        for z, operand in zip((x, y), operands, strict=True):
            if t.is_parameter(z):
                _record_reads(t, operand, range(len(result), len(space)))
        if result.startswith("b"):
            _record_heads(t, operands[0], len(result))
        dims = range(len(result), len(space))
        labels = t.reduce(met, dims, False, call.name)
        if added:
            labels = t.combine([labels, t.labels_of(call.args[0])], tuple(out.shape), call.name)
        return t.masked_result(call, out, labels)

    return rule


def _distance(t: Tracer, call: Call) -> Result:
    """Distances between the rows of two matrices, which are sums over their columns."""
    batch = "ABCDEFGH"[: call.args[0].ndim - 2]
    return _product(batch + "nk", batch + "mk", batch + "nm")(t, call)


def _trilinear(t: Tracer, call: Call) -> Result:
    """A product of three tensors, each with dimensions of size 1 put in, that is summed over some dimensions."""
    tensors, places, summed = call.args[:3], call.args[3:6], call.args[6]
    operands: list[Labels] = []
    space: list[int] = []
    for tensor, added in zip(tensors, places, strict=True):
        labels, shape = t.labels_of(tensor), tensor.shape
        for dim in sorted(added):
            shape = (*shape[:dim], 1, *shape[dim:])
        operands.append(Labels(tuple(shape), tuple(_with_ones(f, added) for f in labels.factors), labels.constant))
        space = [max(sizes) for sizes in zip(space, shape, strict=True)] if space else list(shape)
        if t.is_parameter(tensor):
            _record_reads(t, operands[-1], summed)
    met = t.combine(operands, space, call.name, summed=True)
    return t.masked_result(call, t.value(call), t.reduce(met, summed, False, call.name))


def _with_ones(factor: Tensor, dims: Sequence[int]) -> Tensor:
    """Return a factor with dimensions of size 1 put in."""
    for dim in sorted(dims):
        factor = factor.unsqueeze(dim)
    return factor


def _placed(labels: Labels, letters: str, space: str) -> Labels:
    """Return labels with their dimensions in the order of the space, and size 1 for letters that they lack."""
    order = [letters.index(letter) for letter in space if letter in letters]

    def place(sizes: Sequence[int]) -> list[int]:
        known = iter([sizes[dim] for dim in order])
        return [next(known) if letter in letters else 1 for letter in space]

    factors = tuple(factor.permute(order).reshape(place(factor.shape)) for factor in labels.factors)
    copies = None if labels.copies is None else labels.copies.permute(order).reshape(place(labels.copies.shape))
    return Labels(tuple(place(labels.shape)), factors, labels.constant, copies)


def _record_reads(t: Tracer, operand: Labels, dims: Sequence[int]) -> None:
    """Record which dimensions of parameters a product sums over."""
    for factor in operand.factors:
        if varying(factor) and varying(factor) <= set(dims):
            t.record_read(factor)


def _record_heads(t: Tracer, query: Labels, result: int) -> None:
    """Record the heads of an attention: batches of a product that sum over different channels."""
    for factor in query.factors:
        summed = {dim for dim in varying(factor) if dim >= result}
        if not summed or 0 not in varying(factor) or not bool(is_channel(factor).all()):
            continue
        first = factor[tuple(slice(0, 1) if dim in summed else slice(None) for dim in range(factor.ndim))]
        t.found.heads.setdefault(t.where(), (_in_order(first.reshape(-1)), _in_order(factor.reshape(-1))))


def _in_order(labels: Tensor) -> Tensor:
    """Return the channels among labels in the order in which they first appear."""
    values, inverse = torch.unique(labels, return_inverse=True)
    first = torch.full((len(values),), len(labels)).scatter_reduce(0, inverse, torch.arange(len(labels)), "amin")
    ordered: Tensor = values[first.argsort()]
    return ordered.long() - FIRST


def _convolution(t: Tracer, call: Call) -> Result:
    x, weight, bias, *_, transposed, _, groups = call.args
    out = t.product(call)
    labels = _convolved(t, call, t.labels_of(x), t.labels_of(weight), transposed, groups)
    labels = _fitted(t, labels, tuple(out.shape), call.name)
    if bias is not None:
        column = Labels(
            (1, out.shape[1], *(1,) * (out.ndim - 2)),
            tuple(f.view(1, -1, *(1,) * (out.ndim - 2)) for f in t.labels_of(bias).factors),
        )
        labels = t.combine([labels, column], tuple(out.shape), call.name)
    return t.masked_result(call, out, labels)


def _convolved(t: Tracer, call: Call, x: Labels, weight: Labels, transposed: bool, groups: int) -> Labels:
    """Return the labels of a convolution, with the input's size in space."""
    spatial = len(weight.shape) - 2
    for factor in weight.factors:
        if any(dim >= 2 for dim in varying(factor)):
            t.keep(factor, "is a place in a kernel")
    rows = 1 if transposed else 0
    if groups == 1:
        letters = "oc" if not transposed else "co"
        space = "abd"[:spatial]
        plain = Labels(
            weight.shape[:2], tuple(f.flatten(2)[..., 0] if spatial else f for f in weight.factors if _flat(f))
        )
        operands = [_placed(x, "nc" + space, "no" + space + "c"), _placed(plain, letters, "no" + space + "c")]
        sizes = (x.shape[0], weight.shape[rows], *x.shape[2:], x.shape[1])
        met = t.combine(operands, sizes, call.name, summed=True)
        _record_reads(t, operands[1], [len(sizes) - 1])
        return t.reduce(met, [len(sizes) - 1], False, call.name)
    return _grouped(t, call, x, weight, transposed, groups)


def _flat(factor: Tensor) -> bool:
    return all(dim < 2 for dim in varying(factor))


def _grouped(t: Tracer, call: Call, x: Labels, weight: Labels, transposed: bool, groups: int) -> Labels:
    """A grouped convolution keeps whole groups, the same ones on both sides."""
    own = next((f.reshape(-1) for f in weight.factors if varying(f) == {0}), None)
    for factor in weight.factors:
        if varying(factor) == {1}:
            t.keep(factor, "lies within a group")
    arriving = next((f for f in x.factors if f.shape[1] > 1), None)
    if own is None:
        return Labels((x.shape[0], weight.shape[1] * groups if transposed else weight.shape[0], *x.shape[2:]))
    head = own.view(groups, -1)[:, :1]
    t.tie(own.view(groups, -1), head, call.name)
    if arriving is None:
        if not x.constant:
            t.keep(own, f"belongs to a group of channels of fixed size at {t.place(call.name)}")
    else:
        parts = arriving.unflatten(1, (groups, -1))
        t.tie(parts, head.view(1, groups, 1, *(1,) * (len(x.shape) - 2)), call.name)
    count = weight.shape[1] * groups if transposed else weight.shape[0]
    label = head.expand(groups, count // groups) if transposed else own.view(groups, -1)
    factors = [label.reshape(1, -1, *(1,) * (len(x.shape) - 2))]
    factors += [f for f in x.factors if f.shape[1] == 1 and varying(f)]
    return Labels((x.shape[0], count, *x.shape[2:]), tuple(factors))


def _fitted(t: Tracer, labels: Labels, shape: tuple[int, ...], name: str) -> Labels:
    """Return labels for a result of another size in space; channels that vary along a size that changes are kept."""
    factors = []
    for factor in labels.factors:
        if any(factor.shape[dim] not in (1, shape[dim]) for dim in range(factor.ndim)):
            t.keep(factor, f"lies along a dimension that {t.place(name)} resizes")
        else:
            factors.append(factor)
    return Labels(shape, tuple(factors), labels.constant)


PRODUCTS: dict[str, Rule] = {
    "convolution": _convolution,
    "mm": _product("nk", "km", "nm"),
    "bmm": _product("bnk", "bkm", "bnm"),
    "_cdist_forward": _distance,
    "_euclidean_dist": _distance,
    "_trilinear": _trilinear,
    "mv": _product("nk", "k", "n"),
    "dot": _product("k", "k", ""),
    "vdot": _product("k", "k", ""),
    "addmm": _product("nk", "km", "nm", added=True),
    "baddbmm": _product("bnk", "bkm", "bnm", added=True),
    "addmv": _product("nk", "k", "n", added=True),
}
"""The rule of each product."""
