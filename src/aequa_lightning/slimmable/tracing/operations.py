"""The rule of each operation: the labels of its results, and its constraints on channels.

Operations that move data are applied to the labels (``movement.py``). Elementwise operations tie the channels that
they combine. Matrix products combine channels and sum over them (``products.py``). Sums, norms and pooling over
channels need whole groups of them (``reductions.py``). An operation without a rule keeps all channels of its inputs at
every width.
"""

from collections.abc import Collection

import torch
from torch import Tag, Tensor
from torch.utils._pytree import tree_leaves

from aequa_lightning.slimmable.tracing.labels import Labels, labels_from, resized
from aequa_lightning.slimmable.tracing.movement import MOVEMENTS, keep_along
from aequa_lightning.slimmable.tracing.probe import compute
from aequa_lightning.slimmable.tracing.products import PRODUCTS
from aequa_lightning.slimmable.tracing.reductions import REDUCTIONS, dims_of
from aequa_lightning.slimmable.tracing.trace import Call, Result, Rule, Tracer


def rule_of(call: Call) -> Rule:
    """Return the rule of an operation."""
    rule = RULES.get(call.name)
    if rule is not None:
        return rule
    if _is_pointwise(call):
        return _pointwise
    spatial = next((int(digit) for digit in "123" if f"{digit}d" in call.name), 0)
    if spatial and call.name.lstrip("_").startswith(_WINDOWS):
        return _window
    return Tracer.mix


def _is_pointwise(call: Call) -> bool:
    """Return whether PyTorch tags any overload of an operation as pointwise; in-place ones lack the tag."""
    forms = getattr(torch.ops.aten, call.name, call.func)
    return any(Tag.pointwise in form.tags for form in (call.func, *(getattr(forms, n) for n in forms.overloads())))


def _pointwise(t: Tracer, call: Call) -> Result:
    out = t.value(call)
    shape = next(leaf.shape for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
    return t.masked_result(call, out, t.combine([t.labels_of(x) for x in call.tensors], shape, call.name))


def _same(t: Tracer, call: Call) -> Result:
    """An operation whose result has the shape, and exists where, its first argument does."""
    return t.masked_result(call, t.value(call), t.labels_of(call.args[0]))


def _copy(t: Tracer, call: Call) -> Result:
    labels = t.combine([t.labels_of(call.args[0]), t.labels_of(call.args[1])], call.args[0].shape, call.name)
    return t.masked_result(call, t.value(call), labels)


def _fresh(t: Tracer, call: Call) -> Result:
    """New memory, or a number, without channels."""
    out = compute(call.func, call.name, call.args, call.kwargs)
    return out, [Labels(tuple(leaf.shape), constant=True) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]


def _gated(t: Tracer, call: Call) -> Result:
    """A gated linear unit: combines the halves of a dimension."""
    x, dim = call.args[0], call.bound["dim"]
    labels = t.labels_of(x)
    half = x.shape[dim] // 2
    parts = []
    for start in (0, half):
        factors = [f.narrow(dim, start, half) if f.shape[dim] > 1 else f for f in labels.factors]
        t.record_part(labels.factors, factors)
        parts.append(labels_from(x.narrow(dim, start, half).shape, factors))
    return t.masked_result(call, t.value(call), t.combine(parts, parts[0].shape, call.name))


def _window(t: Tracer, call: Call) -> Result:
    """Pooling, padding and resizing in space: channels must not vary there."""
    spatial = next(int(digit) for digit in "123" if f"{digit}d" in call.name)
    ndim = len(t.labels_of(call.args[0]).shape)
    return _mixed_along(t, call, range(ndim - spatial, ndim))


def _sampled(t: Tracer, call: Call) -> Result:
    """Sampling in space at places that are computed."""
    t.keep_all([t.labels_of(call.args[1])], f"says where {t.place(call.name)} samples")
    return _window(t, call)


def _transformed(t: Tracer, call: Call) -> Result:
    """Fourier transforms, scans and sorting mix elements along some dimensions only."""
    return _mixed_along(t, call, dims_of(call, call.args[0].ndim))


def _mixed_along(t: Tracer, call: Call, dims: Collection[int]) -> Result:
    """An operation that mixes elements along some dimensions, whose sizes it may change."""
    labels = keep_along(t, t.labels_of(call.args[0]), dims, f"lies along a dimension that {t.place(call.name)} mixes")
    out = t.value(call)
    shape = next(leaf.shape for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
    return t.masked_result(call, out, resized(labels, shape))


_WINDOWS = (
    "max_pool",
    "avg_pool",
    "adaptive",
    "upsample",
    "reflection_pad",
    "replication_pad",
    "fractional",
    "max_unpool",
)
_SAME = """
    clone _to_copy contiguous zero fill zeros_like ones_like empty_like full_like rand_like randn_like tril triu
    bernoulli uniform normal exponential _conj _resolve_conj
""".split()  # noqa: SIM905
_FRESH = """
    new_zeros new_ones new_full new_empty new_empty_strided _local_scalar_dense equal is_nonzero
""".split()  # noqa: SIM905
_POINTWISE = """
    native_dropout _weight_norm_interface _prelu_kernel hardswish rrelu_with_noise rrelu_with_noise_functional
    log_sigmoid_forward floor_divide bucketize polar complex fake_quantize_per_tensor_affine_cachemask
""".split()  # noqa: SIM905
_ALONG = """
    _fft_r2c _fft_c2r _fft_c2c cumsum cumprod logcumsumexp cummax cummin _cummax_helper topk sort
""".split()  # noqa: SIM905

RULES: dict[str, Rule] = {
    **MOVEMENTS,
    **REDUCTIONS,
    **PRODUCTS,
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_FRESH, _fresh),
    **dict.fromkeys(_ALONG, _transformed),
    **dict.fromkeys(_POINTWISE, _pointwise),
    **dict.fromkeys(["grid_sampler_2d", "grid_sampler_3d"], _sampled),
    "copy": _copy,
    "glu": _gated,
}
"""The rule of each operation that its tags or its name do not determine."""
