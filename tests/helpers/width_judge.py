"""An independent judge of narrower networks, which shares no code with the tracer.

A narrower network computes what the full one computes with zeros wherever the width keeps nothing. Layer and RMS norms
run over the channels that are left: those whose weight is not zero.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aequa_lightning.slimmable import SlimmableModel


def randomize(network: nn.Module) -> None:
    """Fill parameters and running statistics with random values, none of them zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
            parameter.copy_(noise * (1.5 / fan) ** 0.5 if parameter.ndim > 1 else noise.abs() * 0.3 + 0.5)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)


@contextmanager
def norms_over_kept() -> Iterator[None]:
    """Take the statistics of norms over channels whose weight is not zero, and none from fused kernels."""
    layer, rms, fast = functional.layer_norm, functional.rms_norm, torch.backends.mha.get_fastpath_enabled()

    def layer_norm(x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
        if weight is None or len(shape) != 1:
            return layer(x, shape, weight, bias, eps)
        kept = (weight != 0).to(x)
        mean = (x * kept).sum(-1, keepdim=True) / kept.sum()
        variance = ((x - mean) * kept).square().sum(-1, keepdim=True) / kept.sum()
        y = (x - mean) / (variance + eps).sqrt() * weight
        return y if bias is None else y + bias

    def rms_norm(x: Tensor, shape: Any, weight: Any = None, eps: float | None = None) -> Tensor:
        if weight is None:
            return rms(x, shape, weight, eps)
        kept = (weight != 0).to(x)
        square = (x * kept).square().sum(-1, keepdim=True) / kept.sum()
        return x * kept / (square + (torch.finfo(x.dtype).eps if eps is None else eps)).sqrt() * weight

    functional.layer_norm, functional.rms_norm = layer_norm, rms_norm
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        functional.layer_norm, functional.rms_norm = layer, rms
        torch.backends.mha.set_fastpath_enabled(fast)


def full_with_zeros(model: SlimmableModel, width: float, narrow: nn.Module) -> nn.Module:
    """Return the full network with the narrow one's values in their place and zeros elsewhere."""
    full = copy.deepcopy(model.full).eval()
    own = dict(narrow.named_parameters())
    places = {name: torch.arange(p.numel()).view(p.shape) for name, p in full.named_parameters()}
    where = model.plan(width).take(places)
    with torch.no_grad():
        for name, parameter in full.named_parameters():
            flat = torch.zeros(parameter.numel())
            flat[where[name].reshape(-1)] = own[name].reshape(-1).to(flat)
            parameter.copy_(flat.view(parameter.shape))
        wide = dict(full.named_modules())
        for name, part in narrow.named_modules():
            if isinstance(part, nn.modules.batchnorm._NormBase) and part.running_mean is not None:
                kept = where.get(f"{name}.weight", torch.arange(len(part.running_mean)))
                wide[name].running_mean.zero_()[kept] = part.running_mean
                wide[name].running_var.fill_(1.0)[kept] = part.running_var
    return full


def tensors(output: Any) -> list[Tensor]:
    """Return all tensors of an output."""
    if isinstance(output, Tensor):
        return [output]
    parts: Sequence[Any] = []
    if isinstance(output, Mapping):
        parts = list(output.values())
    elif isinstance(output, list | tuple):
        parts = output
    return [tensor for part in parts for tensor in tensors(part)]


@torch.no_grad()
def fault_of(network: nn.Module, x: Tensor, widths: Sequence[float], *, zeros: bool = True, rtol: float = 2e-4) -> str:
    """Return what is wrong with a network's widths, or nothing.

    Args:
        network: Any network; it is filled with random values.
        x: A batch.
        widths: The grid.
        zeros: Compare with the full network with zeros; False where it takes something over its channels by design.
        rtol: The largest deviation, as a share of the largest value.

    Raises:
        InputError: The network is refused.
    """
    randomize(network)
    network.eval()
    before = [tensor.clone() for tensor in tensors(network(x))]
    model = SlimmableModel(network, widths, x[:1]).eval()
    if not all(map(torch.equal, before, tensors(model(x)))):
        return "the full width computes something else than the network"
    if model.has_statistics:
        model.train()
        model.recalibrate([x, x + 0.1 * torch.randn_like(x) if x.is_floating_point() else x])
        model.eval()
    for width in model.widths:
        narrow = model.extract(width).eval()
        mine = tensors(narrow(x))
        if not all(map(torch.equal, mine, tensors(model(x, width=width)))):
            return f"at {width} the extracted network differs from the model"
        if not zeros:
            continue
        with norms_over_kept():
            mine = tensors(narrow(x))
            expected = tensors(full_with_zeros(model, width, narrow)(x))
        for a, b in zip(mine, expected, strict=True):
            error = float((a - b).abs().max() / b.abs().max().clamp(min=1e-3))
            if not error <= rtol:
                return f"at {width} off by {error:.2g} of the full network with zeros"
    return ""
