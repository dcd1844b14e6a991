"""Networks and settings of dry runs: double precision, random weights, reproducible results.

The results of two dry runs are compared, so both use the same random numbers, stay in double precision and avoid
kernels that fuse several operations.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from aequa_lightning.slimmable.norm import RunningNorm
from aequa_lightning.slimmable.plan import SlicePlan
from aequa_lightning.slimmable.tracing.skeleton import filled_copy

_TABLE = 1_000_003  # a prime, so that the repeated table of random numbers lines up with no dimension
_CHANCE = {"randint": 0, "rand": 0.5, "uniform": 0.5, "bernoulli": 1, "normal": 0.1, "exponential": 1}


def random_tensors(skeleton: nn.Module) -> dict[str, Tensor]:
    """Return random parameters and running statistics in double precision for a network, by name, none of them zero.

    Products with a matrix keep their scale; vectors are between 0.5 and 1.5, so that nothing is divided by zero.
    """
    statistics = {id(b) for part in skeleton.modules() if isinstance(part, RunningNorm) for b in part.buffers(False)}
    named = [
        (name, tensor)
        for name, tensor in [*skeleton.named_parameters(), *skeleton.named_buffers()]
        if tensor.is_meta and (isinstance(tensor, nn.Parameter) or id(tensor) in statistics)
    ]
    total = sum(tensor.numel() for _, tensor in named)
    table = torch.rand(min(total, _TABLE), generator=torch.Generator().manual_seed(0), dtype=torch.double)
    numbers = table.repeat(-(-total // max(len(table), 1))) if total > len(table) else table
    tensors: dict[str, Tensor] = {}
    for (name, tensor), part in zip(named, numbers[:total].split([t.numel() for _, t in named]), strict=True):
        values = part.view(tensor.shape)
        if tensor.ndim > 1:
            fan = max(tensor.numel() // max(tensor.shape[0], 1), 1)
            tensors[name] = (values - 0.5).mul_((12 * 1.5 / fan) ** 0.5)
        elif name.endswith(("bias", "running_mean")):
            tensors[name] = values - 0.5
        else:
            tensors[name] = values + 0.5
        if tensor.is_complex():
            tensors[name] = torch.complex(tensors[name], tensors[name].flip(0))
    return tensors


def blank_tensors(skeleton: nn.Module) -> dict[str, Tensor]:
    """Return ones without memory of their own instead of :func:`random_tensors`, for runs without products."""
    one = torch.ones((), dtype=torch.double)
    named = [*skeleton.named_parameters(), *skeleton.named_buffers()]
    return {name: one.expand(tensor.shape) for name, tensor in named if tensor.is_meta}


def probe(skeleton: nn.Module, tensors: Mapping[str, Tensor], plan: SlicePlan | None = None) -> nn.Module:
    """Return a network that can be run: a skeleton with tensors of its own, in evaluation.

    Args:
        skeleton: The full network's or a narrow one.
        tensors: The full network's parameters and buffers, by name, in double precision.
        plan: The skeleton's part of them; None: everything.
    """
    names = {name for name, _ in [*skeleton.named_parameters(), *skeleton.named_buffers()]}
    own = {name: tensors[name] if plan is None else plan.cut(name, tensors[name]) for name in names}
    # A run may write into buffers, never into parameters.
    buffers = {name for name, _ in skeleton.named_buffers()}
    return filled_copy(skeleton, {name: t.clone() if name in buffers else t for name, t in own.items()})


def random_input(example_input: Tensor, skeleton: nn.Module, seed: int = 0) -> Tensor:
    """Return an input like the example: normal random numbers, or the example itself where it is integer.

    It has two samples where the network norms over the batch at all times, which fails for a single one.

    Args:
        example_input: The example.
        skeleton: The network's skeleton.
        seed: Others than 0 draw other numbers, where it is integer from the example's own.
    """
    static = any(isinstance(part, RunningNorm) and part.running_mean is None for part in skeleton.modules())
    copies = 2 if static and len(example_input) == 1 else 1
    x = example_input.repeat(copies, *(1,) * (example_input.ndim - 1))
    generator = torch.Generator().manual_seed(1 + seed)
    if x.is_floating_point():
        return torch.randn(x.shape, generator=generator, dtype=torch.double)
    return x.flatten()[torch.randint(x.numel(), x.shape, generator=generator)] if seed and x.numel() else x


@contextmanager
def dry_run() -> Iterator[None]:
    """Run without gradients, autocast and fused kernels, whatever the caller's settings."""
    fast, threads = torch.backends.mha.get_fastpath_enabled(), torch.get_num_threads()
    generators = torch.get_rng_state()
    torch.set_num_threads(1)  # the operations are small: several threads would spend their time waiting
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
            torch.device("cpu") if torch.get_default_device().type != "cpu" else nullcontext(),
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_num_threads(threads)
        torch.set_rng_state(generators)


@contextmanager
def structure_mode(module: nn.Module) -> Iterator[None]:
    """Run containers as in training (auxiliary heads, no fused kernels) and leaves as in evaluation (no dropout)."""
    modes = {part: part.training for part in module.modules()}
    try:
        for part in modes:
            part.training = any(True for _ in part.children())
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def compute(func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute an operation in double precision, with constants for random numbers and fast grouped convolutions.

    Args:
        func: The operation.
        name: Its name, without namespace, overload and the underscore of those that write in place.
        args: Its arguments.
        kwargs: Its named arguments.
    """
    if isinstance(kwargs.get("dtype"), torch.dtype) and kwargs["dtype"].is_floating_point:
        kwargs = kwargs | {"dtype": torch.double}
    if name == "convolution" and args[8] > 1 and not args[6] and args[0].dtype == torch.double:
        return _grouped_convolution(*args)
    if name == "native_dropout":
        return args[0].clone(), torch.ones_like(args[0], dtype=torch.bool)
    out = func(*args, **kwargs)
    chance = next((value for start, value in _CHANCE.items() if name.startswith(start)), None)
    if chance is not None and isinstance(out, Tensor) and name != "randperm":
        out.fill_(chance)
    return out if not isinstance(out, Tensor) or (args and out is args[0]) else to_double(out)


def to_double(tensor: Tensor) -> Tensor:
    """Return a tensor in double precision; one of whole numbers as it is.

    Example:
        >>> to_double(torch.zeros(1)).dtype, to_double(torch.zeros(1, dtype=torch.cfloat)).dtype
        (torch.float64, torch.complex128)
    """
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


def _grouped_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, *rest: Any
) -> Tensor:
    """Compute a grouped convolution as a sum over the positions of its kernel.

    In double precision PyTorch computes one group after another, which takes seconds for a depthwise layer.
    """
    groups, spatial = rest[2], weight.ndim - 2
    batch, rows, each = x.shape[0], weight.shape[0], weight.shape[1]
    pads = [pad for pad in reversed(list(padding)) for _ in range(2)]
    padded = torch.constant_pad_nd(x, pads)
    sizes = [
        (padded.shape[2 + dim] - dilation[dim] * (weight.shape[2 + dim] - 1) - 1) // stride[dim] + 1
        for dim in range(spatial)
    ]
    kernel = weight.reshape(groups, rows // groups, each, -1)
    out = x.new_zeros(batch, groups, rows // groups, math.prod(sizes))
    for place, offset in enumerate(
        torch.cartesian_prod(*(torch.arange(k) for k in weight.shape[2:])).view(-1, spatial)
    ):
        window = [slice(None), slice(None)]
        for dim in range(spatial):
            start = int(offset[dim]) * dilation[dim]
            window.append(slice(start, start + (sizes[dim] - 1) * stride[dim] + 1, stride[dim]))
        part = padded[tuple(window)].reshape(batch, groups, each, -1)
        if each == 1:
            out += part * kernel[:, :, :, place]
        else:
            out += kernel[:, :, :, place] @ part
    out = out.view(batch, rows, *sizes)
    return out if bias is None else out + bias.view(-1, *(1,) * spatial)
