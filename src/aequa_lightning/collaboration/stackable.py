"""Operations that ``torch.func.vmap`` has no good form of, in one that suits a stack of networks.

With weights of its own for every network a convolution becomes a grouped convolution, for which libraries have slow
code. Small images are better unfolded: a row for every position, and then one batched matrix product for the whole
stack (Chellapilla et al., "High Performance Convolutional Neural Networks for Document Processing", 2006).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from typing_extensions import override

Pair = tuple[int, int]


class StackableOperations(TorchFunctionMode):
    """Within it, two-dimensional convolutions are matrix products and global average pooling is a mean.

    Example:
        >>> weights, images = torch.randn(3, 8, 2, 3, 3), torch.randn(3, 5, 2, 6, 6)
        >>> convolve = torch.func.vmap(lambda weight, image: functional.conv2d(image, weight, padding=1))
        >>> with StackableOperations():
        ...     products = convolve(weights, images)
        >>> torch.allclose(products, convolve(weights, images), atol=1e-4)
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
        kwargs = kwargs or {}
        if func is torch.conv2d:
            call = _arguments(*args, **kwargs)
            if call is not None:
                return _Convolution.apply(*call)
        elif func is functional.adaptive_avg_pool2d and _is_global(*args, **kwargs):
            # The library's own falls back on a loop over the stack.
            return args[0].mean((-2, -1), keepdim=True)
        return func(*args, **kwargs)


def _is_global(input: Tensor, output_size: int | Sequence[int]) -> bool:
    return output_size in (1, (1, 1), [1, 1])


def _arguments(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[Any, ...] | None:
    """Return the arguments of :class:`_Convolution`, or None where it does not apply."""
    if groups != 1 or isinstance(padding, str) or x.ndim != 4:
        return None
    return x, weight, bias, _pair(stride), _pair(padding), _pair(dilation)


def _pair(value: int | Sequence[int]) -> Pair:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


class _Convolution(torch.autograd.Function):
    """One network's convolution; ``vmap`` hands a stack of them to :class:`_StackedConvolution`."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
        return functional.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: gradients are taken of the stack."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Pair) -> Any:
        def stacked(value: Tensor, dim: int | None) -> Tensor:
            return value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)

        x, weight = stacked(x, in_dims[0]), stacked(weight, in_dims[1])
        bias = None if bias is None else stacked(bias, in_dims[2])
        return _StackedConvolution.apply(x, weight, bias, *geometry), 0


class _StackedConvolution(torch.autograd.Function):
    """Convolutions of K networks: x (K, B, C, H, W), weight (K, O, C, h, w), bias (K, O) or None -> (K, B, O, H', W').

    Computed with the channels last; what comes in that layout is not copied, and so is the result.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair
    ) -> Tensor:
        count, batch, channels = x.shape[:3]
        outputs, (rows, columns) = weight.shape[1], weight.shape[-2:]
        padded = functional.pad(
            x.permute(0, 1, 3, 4, 2), (0, 0, padding[1], padding[1], padding[0], padding[0])
        ).contiguous()
        height = (padded.shape[2] - dilation[0] * (rows - 1) - 1) // stride[0] + 1
        width = (padded.shape[3] - dilation[1] * (columns - 1) - 1) // stride[1] + 1
        s = padded.stride()
        windows = padded.as_strided(
            (count, batch, height, width, rows, columns, channels),
            (s[0], s[1], s[2] * stride[0], s[3] * stride[1], s[2] * dilation[0], s[3] * dilation[1], s[4]),
        )
        unfolded = windows.reshape(count, batch * height * width, rows * columns * channels)
        matrix = weight.permute(0, 3, 4, 2, 1).reshape(count, rows * columns * channels, outputs)
        product = torch.bmm(unfolded, matrix) if bias is None else torch.baddbmm(bias[:, None], unfolded, matrix)
        ctx.save_for_backward(unfolded, matrix)
        ctx.shapes = (windows.shape, padded.shape, weight.shape)
        ctx.geometry = (stride, padding, dilation)
        return product.view(count, batch, height, width, outputs).permute(0, 1, 4, 2, 3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        unfolded, matrix = ctx.saved_tensors
        windows, padded, weight = ctx.shapes
        (_, _, height, width, rows, columns, channels) = windows
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        rising = gradient.permute(0, 1, 3, 4, 2).reshape(len(unfolded), -1, weight[1])
        of_weight = of_x = None
        if needs_weight:
            of_weight = torch.bmm(unfolded.mT, rising)
            of_weight = of_weight.view(-1, rows, columns, channels, weight[1]).permute(0, 4, 3, 1, 2)
        if needs_x:
            (down, right), (above, left), (spread_down, spread_right) = ctx.geometry
            pieces = torch.bmm(rising, matrix.mT).view(windows)
            whole = rising.new_zeros(padded)
            for row in range(rows):
                for column in range(columns):
                    top, start = row * spread_down, column * spread_right
                    whole[
                        :,
                        :,
                        top : top + down * (height - 1) + 1 : down,
                        start : start + right * (width - 1) + 1 : right,
                    ] += pieces[:, :, :, :, row, column]
            of_x = whole[:, :, above : padded[2] - above, left : padded[3] - left].permute(0, 1, 4, 2, 3)
        return of_x, of_weight, rising.sum(1) if needs_bias else None, None, None, None
