"""Rules of sums, norms and pooling over channels.

A sum over all channels of a layer is unchanged by zeros. A mean, a maximum, a softmax or a norm over all of them is
taken over those that a width keeps. Where channels are taken in groups, a width keeps whole groups.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from aequa_lightning.slimmable.tracing.labels import Labels, varying
from aequa_lightning.slimmable.tracing.trace import Call, Result, Rule, Tracer


def dims_of(call: Call, ndim: int) -> list[int]:
    """Return the dimensions that an operation works along; all of them where it names none."""
    given = call.bound.get("dim")
    if given is None or (isinstance(given, list | tuple) and not given):
        return list(range(ndim))
    return [dim % max(ndim, 1) for dim in ([given] if isinstance(given, int) else given)]


def _reducing(over_kept: bool) -> Rule:
    """Return the rule of sums, which zeros do not change, or of reductions over the kept channels only."""

    def rule(t: Tracer, call: Call) -> Result:
        x = call.args[0]
        labels, dims = t.labels_of(x), dims_of(call, x.ndim)
        if over_kept and len(dims) == 1 and x.ndim:
            t.record_norm(labels, dims[0])
        after = t.reduce(labels, dims, bool(call.bound.get("keepdim", False)), call.name)
        out = _over_kept(t, call, labels, dims) if over_kept else t.value(call)
        return t.masked_result(call, out, after)

    return rule


def _softmax(t: Tracer, call: Call) -> Result:
    x = call.args[0]
    labels, dims = t.labels_of(x), [call.args[1] % max(x.ndim, 1)]
    t.tie_groups(labels, dims, call.name)
    return t.masked_result(call, _over_kept(t, call, labels, dims), labels)


def _kept_places(t: Tracer, labels: Labels, dims: Sequence[int]) -> list[tuple[int, Tensor]]:
    """Return for each of some dimensions, where not all of it exists, the places that do."""
    places = []
    for factor in labels.factors if t.exists is not None else ():
        inside = sorted(varying(factor) & set(dims))
        if not inside or varying(factor) - set(dims):
            continue
        exists = t.existing(factor)
        for dim in inside:
            others = [other for other in range(factor.ndim) if other != dim]
            along = exists.any(others[0]) if len(others) == 1 else exists.amax(others) if others else exists
            if not bool(along.all()):
                places.append((dim, along.reshape(-1).nonzero().flatten()))
    return places


def _over_kept(t: Tracer, call: Call, labels: Labels, dims: Sequence[int]) -> Any:
    """Compute a call over the channels that exist; a result of the same shape has zeros elsewhere."""
    places = _kept_places(t, labels, dims)
    if not places:
        return t.value(call)
    x = t.masked(call.args[0])
    shape = x.shape
    for dim, index in places:
        x = x.index_select(dim, index)
    out = call.func(x, *call.args[1:], **call.kwargs)
    return tree_map(lambda leaf: _spread(leaf, shape, places), out) if _keeps_shape(out, x) else out


def _keeps_shape(out: Any, x: Tensor) -> bool:
    return isinstance(out, Tensor) and out.shape == x.shape


def _spread(part: Tensor, shape: Sequence[int], places: Sequence[tuple[int, Tensor]]) -> Tensor:
    """Return a tensor with zeros around the given part."""
    for dim, index in reversed(places):
        sizes = list(part.shape)
        sizes[dim] = shape[dim]
        part = part.new_zeros(sizes).index_copy(dim, index, part)
    return part


def _layer_norm(t: Tracer, call: Call) -> Result:
    """Takes statistics over the kept channels."""
    bound = call.bound
    x, shape = call.args[0], bound["normalized_shape"]
    labels, weights = t.labels_of(x), [bound.get("weight"), bound.get("bias")]
    dims = list(range(x.ndim - len(shape), x.ndim))
    t.tie_groups(labels, dims, call.name)
    labels = t.combine([labels, *(t.labels_of(w) for w in weights if w is not None)], x.shape, call.name)
    if len(dims) == 1:
        t.record_norm(labels, -1)
    places = _kept_places(t, labels, dims)
    if not places:
        out = t.value(call)
    else:
        args = [t.masked(x), *(None if w is None else t.masked(w) for w in weights)]
        for dim, index in places:
            args[0] = args[0].index_select(dim, index)
            args[1:] = [w if w is None else w.index_select(dim - x.ndim + w.ndim, index) for w in args[1:]]
        sizes = list(args[0].shape[x.ndim - len(shape) :])
        values = [args[0], sizes, *args[1:]] if "bias" in bound else [args[0], sizes, args[1]]
        first, *rest = call.func(*values, bound["eps"])
        out = (_spread(first, x.shape, places), *rest)
    small = [Labels(tuple(leaf.shape)) for leaf in tree_leaves(out)[1:]]
    return t.masked_result(call, out, labels)[0], [labels, *small]


def _group_norm(t: Tracer, call: Call) -> Result:
    """Groups are kept whole; a single group is a norm over the kept channels."""
    x, weight, bias, batch, channels, pixels, groups, eps = call.args
    labels = t.labels_of(x)
    parts = [None if w is None else t.labels_of(w) for w in (weight, bias)]
    column = [1, -1, *(1,) * (x.ndim - 2)]
    flat = [Labels((1, channels, *(1,) * (x.ndim - 2)), tuple(f.view(column) for f in p.factors)) for p in parts if p]
    if groups > 1:
        for factor in labels.factors:
            if factor.shape[1] > 1:
                grouped = factor.unflatten(1, (groups, -1))
                t.tie(grouped, grouped[:, :, :1], call.name)
    else:
        t.tie_groups(labels, range(1, x.ndim), call.name)
    labels = t.combine([labels, *flat], x.shape, call.name)
    t.record_norm(labels, 1)
    places = _kept_places(t, labels, [1]) if groups == 1 else []
    if not places:
        out = t.value(call)
    else:
        (_, index), *_ = places
        few = [None if w is None else t.masked(w).index_select(0, index) for w in (weight, bias)]
        first, *rest = call.func(x.index_select(1, index), *few, batch, len(index), pixels, 1, eps)
        out = (_spread(first, x.shape, places), *rest)
    small = [Labels(tuple(leaf.shape)) for leaf in tree_leaves(out)[1:]]
    return t.masked_result(call, out, labels)[0], [labels, *small]


def _batch_norm(t: Tracer, call: Call) -> Result:
    x = call.args[0]
    column = [1, -1, *(1,) * (x.ndim - 2)]
    tensors = [leaf for leaf in call.args[1:] if isinstance(leaf, Tensor)]
    parts = [t.labels_of(w) for w in tensors]
    flat = [
        Labels(tuple(w.view(column).shape), tuple(f.view(column) for f in p.factors), p.constant)
        for w, p in zip(tensors, parts, strict=True)
    ]
    labels = t.combine([t.labels_of(x), *flat], x.shape, call.name)
    out = t.value(call)
    small = [Labels(tuple(leaf.shape), constant=True) for leaf in tree_leaves(out)[1:] if isinstance(leaf, Tensor)]
    return t.masked_result(call, out, labels)[0], [labels, *small]


_SUMS = ["sum", "nansum", "linalg_vector_norm", "norm", "any", "count_nonzero"]
_OVER_KEPT = """
    mean var std var_mean std_mean amax amin max min prod logsumexp all aminmax argmax argmin median
""".split()  # noqa: SIM905
_BATCH_NORMS = """
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training _batch_norm_no_update
    cudnn_batch_norm
""".split()  # noqa: SIM905

REDUCTIONS: dict[str, Rule] = {
    **dict.fromkeys(_SUMS, _reducing(over_kept=False)),
    **dict.fromkeys(_OVER_KEPT, _reducing(over_kept=True)),
    **dict.fromkeys(["_softmax", "_log_softmax", "_safe_softmax"], _softmax),
    **dict.fromkeys(["native_layer_norm", "_fused_rms_norm"], _layer_norm),
    **dict.fromkeys(_BATCH_NORMS, _batch_norm),
    "native_group_norm": _group_norm,
}
"""The rule of each operation that reduces or norms."""
