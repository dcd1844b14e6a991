"""What writes to some positions of a tensor: along the other dimensions, what is written meets what is there."""

from collections.abc import Collection

import torch
from torch import Tensor

from aequa_lightning.slimmable.tracing.labels import Labels, varying
from aequa_lightning.slimmable.tracing.trace import Call, Result, Rule, Tracer


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
    x, dims = call.args[0], positions_of(call)
    listed = call.name == "index_put"  # its values have the dimensions of the index first, and then those of ``x``
    source = call.args[2] if listed else call.bound.get("src", call.bound.get("source"))
    if not isinstance(source, Tensor) or (listed and dims != set(range(len(dims)))):
        return t.mix(call)
    places = [t.of(y) for y in call.tensors if y is not x and y is not source]
    t.keep_all(places, f"says where {t.place(call.name)} writes")
    lead = max(0, source.ndim - x.ndim + len(dims)) if listed else 0
    there, values = _along_others(t, call, t.of(x), dims), t.of(source)
    values = _along_others(t, call, values, range(lead) if listed else dims)
    values = Labels(values.shape[lead:], tuple(f.reshape(f.shape[lead:]) for f in values.factors), values.constant)
    met = t.meet([there, values], there.shape, call.name)
    return t.settle(call, t.value(call), Labels(tuple(x.shape), met.factors, met.constant))


def _along_others(t: Tracer, call: Call, labels: Labels, dims: Collection[int]) -> Labels:
    """Return labels with size 1 along some dimensions; channels that vary there are kept."""
    factors = []
    for factor in labels.factors:
        if varying(factor) & set(dims):
            t.keep(factor, f"lies along a dimension that {t.place(call.name)} writes to by position")
        else:
            factors.append(factor)
    shape = tuple(1 if dim in dims else size for dim, size in enumerate(labels.shape))
    return Labels(shape, tuple(factors), labels.constant)


_WRITES = ["index_put", "index_add", "index_copy", "index_reduce", "scatter", "scatter_add", "scatter_reduce"]

WRITES: dict[str, Rule] = dict.fromkeys(_WRITES, _writing)
"""The rule of each operation that writes by position."""
