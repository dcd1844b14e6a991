import pytest
import torch
from torch.func import vmap
from torch.nn import functional

from aequa_lightning.collaboration.stackable import StackableOperations


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "dilation", "bias"),
    [
        (1, (3, 3), 1, 1, 1, True),
        (3, (3, 2), 2, 1, 1, False),
        (2, (5, 5), (2, 1), (0, 2), 2, True),
        (4, (1, 1), 1, 0, 1, True),
    ],
)
def test_values_and_gradients_are_those_of_the_library(channels, kernel, stride, padding, dilation, bias) -> None:
    torch.manual_seed(0)
    shapes = [(4, 5, channels, *kernel), (4, 3, channels, 11, 9), *([(4, 5)] if bias else [])]
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def convolve(weight, inputs, bias=None):
        return functional.conv2d(inputs, weight, bias, stride=stride, padding=padding, dilation=dilation)

    expected = vmap(convolve)(*arguments)
    with StackableOperations():
        products = vmap(convolve)(*arguments)
    torch.testing.assert_close(products, expected)
    rising = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(products, arguments, rising), torch.autograd.grad(expected, arguments, rising)
    )


@pytest.mark.parametrize("size", [1, (1, 1), 2, (None, 2)])
def test_adaptive_pooling(size) -> None:
    inputs = torch.randn(2, 3, 6, 4)
    expected = functional.adaptive_avg_pool2d(inputs, size)
    with StackableOperations():
        torch.testing.assert_close(functional.adaptive_avg_pool2d(inputs, size), expected)


def test_other_convolutions_are_left_to_the_library() -> None:
    grouped = torch.nn.Conv2d(4, 4, 3, groups=2, padding="same")
    inputs = torch.randn(2, 4, 5, 5)
    expected = grouped(inputs)
    with StackableOperations():
        assert torch.equal(grouped(inputs), expected)
