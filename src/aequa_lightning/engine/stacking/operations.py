"""Convolutions and pooling of a stack of networks, which are slow under ``torch.func.vmap``.

The channels of all networks of a stack are side by side, last in memory. A stack's convolution is then one grouped
convolution, and pooling sees one network with more channels; no data are moved in between, and the few channels of
small networks together fill the processor's vector registers.

An ``autograd.Function`` may have its own rule for ``vmap``, but calling one takes as long as a small operation. So
tensors are unwrapped from ``vmap``'s batching here, and the results are wrapped again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from typing_extensions import override


class StackableOperations(TorchFunctionMode):
    """Within this mode, convolutions and pooling of a stack work on the channels of all its networks at once.

    Example:
        >>> weights, images = torch.randn(3, 8, 2, 3, 3), torch.randn(3, 5, 2, 6, 6)
        >>> convolve = torch.func.vmap(lambda weight, image: functional.conv2d(image, weight, padding=1))
        >>> with StackableOperations():
        ...     together = convolve(weights, images)
        >>> torch.allclose(together, convolve(weights, images), atol=1e-4)
        True
    """

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return STACKED_FORMS.get(func, func)(*args, **(kwargs or {}))


def _is_stack(value: Tensor) -> bool:
    return _functorch.is_batchedtensor(value)


# Arguments have torch's names, because a network may pass them by name.


def _convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Return the convolutions of each network's images with its own weights, as one grouped convolution."""
    if input.ndim != 4 or not _is_stack(weight):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    level, weights = _functorch.maybe_get_level(weight), _unwrapped(weight)
    count = len(weights)
    together = torch.conv2d(
        side_by_side(_unwrapped(input, count)),
        weights.flatten(0, 1),
        None if bias is None else _unwrapped(bias, count).flatten(),
        stride,
        padding,
        dilation,
        count * groups,
    )
    return _wrapped(together, count, level)


def _pooling(pool: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a pooling for stacks; it treats every channel by itself, so all networks' channels can be side by side."""

    def pooled(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if input.ndim != 4 or not _is_stack(input):
            return pool(input, *args, **kwargs)
        level, stack = _functorch.maybe_get_level(input), _unwrapped(input)
        return _wrapped(pool(side_by_side(stack), *args, **kwargs), len(stack), level)

    return pooled


def _adaptive_pool(input: Tensor, output_size: Any) -> Tensor:
    """Return the mean over images for an output size of 1, where torch's own pooling loops over the stack."""
    if output_size in (1, (1, 1), [1, 1]):
        return input.mean((-2, -1), keepdim=True)
    return functional.adaptive_avg_pool2d(input, output_size)


def _unwrapped(value: Tensor, count: int = 0) -> Tensor:
    """Return a tensor with the stack's dimension first; one that all networks share is expanded."""
    if _is_stack(value):
        return _functorch.get_unwrapped(value).movedim(_functorch.maybe_get_bdim(value), 0)
    return value.expand(count, *value.shape)


def _wrapped(together: Tensor, count: int, level: int) -> Tensor:
    """Return images with channels side by side as a batched tensor of ``vmap``."""
    return _functorch._add_batch_dim(together.unflatten(1, (count, -1)), 1, level)


def side_by_side(images: Tensor) -> Tensor:
    """Return a stack's images as those of one network, its channels last in memory.

    Args:
        images: Shape (networks, batch, channels, height, width).

    Returns:
        Shape (batch, networks * channels, height, width). No copy where the memory is in this order already.

    Example:
        >>> images = torch.arange(24.0).view(2, 1, 3, 2, 2)  # two networks, one image of three channels each
        >>> together = side_by_side(images)
        >>> together.shape, together[0, :, 0, 0].tolist()
        (torch.Size([1, 6, 2, 2]), [0.0, 4.0, 8.0, 12.0, 16.0, 20.0])
        >>> side_by_side(together.unflatten(1, (2, 3)).movedim(1, 0)).data_ptr() == together.data_ptr()
        True
    """
    return images.permute(1, 3, 4, 0, 2).contiguous().flatten(3).permute(0, 3, 1, 2)


STACKED_FORMS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.conv2d: _convolve,
    functional.max_pool2d: _pooling(functional.max_pool2d),
    functional.avg_pool2d: _pooling(functional.avg_pool2d),
    functional.adaptive_avg_pool2d: _adaptive_pool,
}
