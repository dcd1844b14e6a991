"""A width's slices of the full network's parameters, with gradients added in place.

Differentiating a slice makes a gradient of the size of the whole tensor, mostly zeros, which is then added to the
whole gradient: for every parameter and every width of a step. Where gradients are only accumulated, as in a sandwich
step, the small gradient can be added to its place at once. That saves memory traffic which otherwise is a noticeable
share of a step with small batches, or with large linear layers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.slimmable.plan import SlicePlan

_accumulating = ContextVar("accumulating", default=False)


@contextmanager
def accumulating() -> Iterator[None]:
    """Let the backward of every forward in this context add gradients to the parameters' ``grad`` in place.

    This serves ``loss.backward()`` only: ``torch.autograd.grad`` finds no gradient of a parameter that a width cuts,
    and hooks registered on the parameter itself do not see the width's gradient.
    """
    token = _accumulating.set(True)
    try:
        yield
    finally:
        _accumulating.reset(token)


def borrow_slices(plan: SlicePlan, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a width's part of every parameter, with which operations give the same bits as with a plain parameter.

    Args:
        plan: The plan of the width.
        full: The full network's parameters, by name.
    """
    in_place = _accumulating.get() and torch.is_grad_enabled()
    parts: dict[str, Tensor] = {}
    cut: dict[str, Tensor] = {}
    for name, shape in plan.shapes.items():
        whole = full[name]
        if in_place and whole.requires_grad and whole.is_leaf and whole.shape != shape:
            cut[name] = whole
        else:
            parts[name] = _as_parameter(plan.cut(name, whole), whole)
    if cut:
        parts.update(zip(cut, _CutParameters.apply(plan, tuple(cut), *cut.values()), strict=True))
    return parts


def _as_parameter(part: Tensor, whole: Tensor) -> Tensor:
    # Matrix products round differently on strided weights, and choose their kernel by whether a weight requires a
    # gradient, even where none is computed.
    owned = part.contiguous()
    return owned if owned.requires_grad == whole.requires_grad else owned.requires_grad_(whole.requires_grad)


class _CutParameters(torch.autograd.Function):
    """Parts of many parameters; the backward adds their gradients to the parameters' own.

    Autograd passes no gradient to the parameters but still reaches them, so that the hooks of DistributedDataParallel
    run once a gradient is complete.
    """

    @staticmethod
    def forward(ctx: Any, plan: SlicePlan, names: tuple[str, ...], *wholes: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.plan, ctx.names, ctx.wholes = plan, names, wholes
        return tuple([plan.cut(name, whole).contiguous() for name, whole in zip(names, wholes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[None, ...]:
        for name, whole, gradient in zip(ctx.names, ctx.wholes, gradients, strict=True):
            if gradient is not None:
                if whole.grad is None:
                    whole.grad = torch.zeros_like(whole)
                ctx.plan.add(name, whole.grad, gradient)
        return (None,) * (2 + len(gradients))
