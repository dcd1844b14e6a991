"""What the dry run does in place of each operation that has parameters: one rule per operation.

A rule reads its input with :meth:`Tracer.arrive`, records what lies along the dimensions of its parameters with
:meth:`Tracer.note`, and returns what :meth:`Tracer.emit` makes of its output's shape.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from aequa_lightning.slimmable.trace import FREE, Rule, Tracer


def _shape_of(func: Callable[..., Any], x: Tensor, weight: Tensor, *rest: Any, **options: Any) -> torch.Size:
    return func(torch.empty(x.shape, device="meta", dtype=weight.dtype), weight, *rest, **options).shape  # type: ignore[no-any-return]


def _linear(t: Tracer, func: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    name = t.name(weight)
    out = t.root(name, weight.shape[0])
    t.note(weight, (out, t.arrive(x, -1)))
    t.note(bias, (out,))
    return t.emit((*x.shape[:-1], len(out)), -1, out)


def _convolution(
    t: Tracer, func: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kw: Any
) -> Tensor:
    name = t.name(weight)
    dim = x.ndim - (weight.ndim - 1)
    groups = x.shape[dim] // weight.shape[1]
    out, spatial = t.root(name, weight.shape[0]), (None,) * (weight.ndim - 2)
    arriving = t.arrive(x, dim)
    if groups == 1:
        t.note(weight, (out, arriving, *spatial))
    else:
        t.note(weight, (out, None, *spatial))
        _grouped(t, arriving, out, groups)
    t.note(bias, (out,))
    return t.emit(_shape_of(func, x, weight, bias, *args, **kw), dim, out)


def _transposed(
    t: Tracer, func: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kw: Any
) -> Tensor:
    name = t.name(weight)
    dim = x.ndim - (weight.ndim - 1)
    shape = _shape_of(func, x, weight, bias, *args, **kw)
    out, spatial = t.root(name, shape[dim]), (None,) * (weight.ndim - 2)
    arriving, groups = t.arrive(x, dim), shape[dim] // weight.shape[1]
    if groups == 1:
        t.note(weight, (arriving, out, *spatial))
    else:
        t.note(weight, (arriving, None, *spatial))
        _grouped(t, arriving, out, groups)
    t.note(bias, (out,))
    return t.emit(shape, dim, out)


def _grouped(t: Tracer, arriving: Tensor, out: Tensor, groups: int) -> None:
    """A grouped convolution keeps whole groups, the same ones on both sides."""
    if len(arriving) == len(out):
        t.tie(arriving, out)
    elif bool((arriving == FREE).any()):
        t.found.kept += [arriving[arriving != FREE], out]
    t.found.blocks.append(((arriving, out), groups))


def _channel_norm(
    t: Tracer,
    func: Any,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> Tensor:
    ids = t.arrive(input, 1)
    for tensor in (weight, bias, running_mean, running_var):
        t.note(tensor, (ids,))
    return t.emit(input.shape, 1, ids)


def _group_norm(
    t: Tracer,
    func: Any,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> Tensor:
    ids = t.arrive(input, 1)
    t.found.blocks.append(((ids,), num_groups))
    t.note(weight, (ids,))
    t.note(bias, (ids,))
    return t.emit(input.shape, 1, ids)


def _layer_norm(
    t: Tracer,
    func: Any,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> Tensor:
    layout = tuple(t.arrive(input, dim) for dim in range(-len(normalized_shape), 0))
    t.note(weight, layout)
    t.note(bias, layout)
    return t.emit(input.shape, -1, layout[0]) if len(layout) == 1 else input


def _prelu(t: Tracer, func: Any, input: Tensor, weight: Tensor) -> Tensor:
    if weight.numel() == 1:
        return input
    ids = t.arrive(input, 1)
    t.note(weight, (ids,))
    return t.emit(input.shape, 1, ids)


def _embedding(t: Tracer, func: Any, input: Tensor, weight: Tensor, *_: Any, **__: Any) -> Tensor:
    out = t.root(f"{t.name(weight)}[1]", weight.shape[1])
    t.note(weight, (None, out))
    return t.emit((*input.shape, len(out)), -1, out)


def _bag(t: Tracer, func: Any, input: Tensor, weight: Tensor, offsets: Tensor | None = None, **__: Any) -> Tensor:
    out = t.root(f"{t.name(weight)}[1]", weight.shape[1])
    t.note(weight, (None, out))
    return t.emit((len(input) if offsets is None else len(offsets), len(out)), -1, out)


def _recurrent(gates: int) -> Rule:
    """Return the rule of a recurrent network whose weights have the rows of so many gates, one block after another."""

    def rule(t: Tracer, func: Any, x: Tensor, *args: Any) -> Any:
        packed = not isinstance(args[1], list)  # (batch_sizes, hx, weights ...) instead of (hx, weights ...)
        weights, biased, layers, _, _, both_ways = args[1 + packed : 7 + packed]
        directions = 2 if both_ways else 1
        each = len(weights) // (layers * directions)
        projected = each == 2 + 2 * biased + 1
        cell = t.root(t.name(weights[0]), weights[1].shape[0] // gates)
        out = t.root(f"{t.name(weights[0])}[projected]", weights[1].shape[1]) if projected else cell
        rows = cell.repeat(gates)
        columns = t.arrive(x, -1)
        for start in range(0, len(weights), each):
            w_ih, w_hh, *others = weights[start : start + each]
            t.note(w_ih, (rows, columns if start < each * directions else out.repeat(directions)))
            t.note(w_hh, (rows, out))
            for bias in others[: 2 * biased]:
                t.note(bias, (rows,))
            for projection in others[2 * biased :]:
                t.note(projection, (out, cell))
        state = args[packed][0] if gates == 4 else args[packed]
        states = [t.emit((*state.shape[:-1], len(ids)), -1, ids) for ids in (out, cell)]
        output = t.emit((*x.shape[:-1], len(out) * directions), -1, out.repeat(directions))
        return (output, *states) if gates == 4 else (output, states[0])

    return rule


def _multi_head_attention(
    t: Tracer,
    func: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_heads: int,
    *args: Any,
    **kw: Any,
) -> tuple[Tensor, Tensor | None]:
    names = ("in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "add_zero_attn", "dropout_p")
    given = dict(zip((*names, "out_proj_weight", "out_proj_bias"), args, strict=False)) | kw
    arriving = [t.arrive(x, -1) for x in (query, key, value)]
    name = t.name(given["out_proj_weight"])
    inner = t.root(f"{name}[heads]", embed_dim)
    t.tie(inner, arriving[0])  # torch's module has one embed_dim for its input and for its heads
    t.found.blocks.append(((inner,), num_heads))
    if given.get("use_separate_proj_weight"):
        for part, ids in zip("qkv", arriving, strict=True):
            t.note(given[f"{part}_proj_weight"], (inner, ids))
    else:
        t.tie(arriving[0], arriving[1])
        t.tie(arriving[0], arriving[2])
        t.note(given["in_proj_weight"], (inner.repeat(3), arriving[0]))
    t.note(given["in_proj_bias"], (inner.repeat(3),))
    for extra in ("bias_k", "bias_v"):
        t.note(given[extra], (None, None, inner))
    out = t.root(name, len(given["out_proj_weight"]))
    t.note(given["out_proj_weight"], (out, inner))
    t.note(given["out_proj_bias"], (out,))
    output = t.emit((*query.shape[:-1], len(out)), -1, out)
    if not given.get("need_weights", True):
        return output, None
    heads = () if given.get("average_attn_weights", True) else (num_heads,)
    batch = query.shape[1:-1]
    return output, torch.zeros(*batch, *heads, query.shape[0], key.shape[0], dtype=torch.float64)


def _scaled_dot_product_attention(
    t: Tracer, func: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> Tensor:
    arriving = [_heads(t, x) for x in (query, key, value)]
    if len({len(ids) for ids in arriving}) == 1:
        t.tie(arriving[0], arriving[1])
        t.tie(arriving[0], arriving[2])
    _attend(t, query, arriving)
    return value.mean(-2, keepdim=True).expand(*value.shape[:-2], query.shape[-2], value.shape[-1]).clone()


def _matmul(t: Tracer, func: Any, first: Tensor, second: Tensor) -> Tensor:
    """A hand-written attention: (heads, n, channels) x (heads, channels, m), then scores x (heads, m, channels)."""
    if first.requires_grad and second.requires_grad and first.ndim == second.ndim >= 4:
        ids, count = t.found.heads.get(t.where(), (None, 0))
        one, other, values = (_heads(t, x) for x in (first, second.transpose(-1, -2), second))
        if bool((one != FREE).all() and (other != FREE).all()):
            t.tie(one, other)
            _attend(t, first, [one, other])
        elif ids is not None and second.shape[-3] == count and len(values) == len(ids):
            t.tie(ids, values)
            _attend(t, second, [values])
    return func(first, second)  # type: ignore[no-any-return]


def _heads(t: Tracer, x: Tensor) -> Tensor:
    """Read (..., heads, positions, channels) along heads and channels together."""
    return t.look(x.transpose(-3, -2).flatten(-2) if x.ndim > 3 else x, -1)


def _attend(t: Tracer, query: Tensor, arriving: Sequence[Tensor]) -> None:
    """Heads keep their channels; a width keeps whole heads."""
    if query.ndim > 3:
        t.found.blocks.append((tuple(arriving), query.shape[-3]))
        t.found.heads[t.where()] = (arriving[0], query.shape[-3])
        # Code that splits its input's channels into heads takes it for granted that they are as many as the heads'.
        stream = t.source(arriving[0])
        if stream is not None and len(stream) == len(arriving[0]):
            t.tie(arriving[0], stream)


def _same(t: Tracer, func: Any, input: Tensor, *_: Any, **__: Any) -> Tensor:
    return input


RULES: dict[Any, Rule] = {
    functional.linear: _linear,
    torch.conv1d: _convolution,
    torch.conv2d: _convolution,
    torch.conv3d: _convolution,
    torch.conv_transpose1d: _transposed,
    torch.conv_transpose2d: _transposed,
    torch.conv_transpose3d: _transposed,
    functional.batch_norm: _channel_norm,
    functional.instance_norm: _channel_norm,
    functional.group_norm: _group_norm,
    functional.layer_norm: _layer_norm,
    functional.rms_norm: _layer_norm,
    functional.prelu: _prelu,
    functional.embedding: _embedding,
    functional.embedding_bag: _bag,
    torch.lstm: _recurrent(4),
    torch.gru: _recurrent(3),
    torch.rnn_tanh: _recurrent(1),
    torch.rnn_relu: _recurrent(1),
    functional.multi_head_attention_forward: _multi_head_attention,
    functional.scaled_dot_product_attention: _scaled_dot_product_attention,
    torch.matmul: _matmul,
    torch.Tensor.matmul: _matmul,
    torch.Tensor.__matmul__: _matmul,
    functional.dropout: _same,
    functional.dropout1d: _same,
    functional.dropout2d: _same,
    functional.dropout3d: _same,
    functional.alpha_dropout: _same,
    functional.feature_alpha_dropout: _same,
    torch.dropout: _same,
}
