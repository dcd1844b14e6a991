import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.nn import functional

from aequa_lightning.engine.stacking.operations import StackableOperations


@pytest.mark.parametrize(
    ("channels", "kernel", "options", "bias"),
    [
        (1, (3, 3), {"padding": 1}, True),
        (3, (3, 2), {"stride": 2, "padding": 1}, False),
        (2, (5, 5), {"stride": (2, 1), "padding": (0, 2), "dilation": 2}, True),
        (4, (1, 1), {}, True),
        (4, (3, 3), {"padding": "same", "groups": 2}, True),
    ],
)
def test_stacking_values_and_gradients_of_convolutions_are_those_of_the_library(
    channels, kernel, options, bias
) -> None:
    torch.manual_seed(0)
    inward = channels // options.get("groups", 1)
    shapes = [(4, 6, inward, *kernel), (4, 3, channels, 11, 9), *([(4, 6)] if bias else [])]
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def convolve(weight, inputs, bias=None):
        return functional.conv2d(inputs, weight, bias, **options)

    expected = vmap(convolve)(*arguments)
    with StackableOperations():
        together = vmap(convolve)(*arguments)
    torch.testing.assert_close(together, expected)
    rising = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(together, arguments, rising), torch.autograd.grad(expected, arguments, rising)
    )


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        nn.AvgPool2d(2, count_include_pad=False),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((None, 2)),
    ],
    ids=repr,
)
def test_stacking_pooling_and_its_gradients_are_those_of_each_network(pool) -> None:
    torch.manual_seed(0)
    # Ties too: which of two equal numbers gets the gradient must not change.
    images = torch.randint(0, 3, (4, 3, 2, 9, 6)).double().requires_grad_()
    expected = torch.stack([pool(single) for single in images])
    with StackableOperations():
        together = vmap(pool)(images)
    assert torch.equal(together, expected)
    rising = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(together, images, rising), torch.autograd.grad(expected, images, rising)
    )


def test_stacking_network_that_all_share_the_images_of() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    images = torch.randn(5, 2, 6, 6)
    stacked = {name: torch.randn(3, *value.shape) for name, value in network.named_parameters()}
    with StackableOperations():
        together = vmap(lambda values: functional_call(network, values, (images,)))(stacked)
    for place, outputs in enumerate(together):
        alone = functional_call(network, {name: value[place] for name, value in stacked.items()}, (images,))
        torch.testing.assert_close(outputs, alone)


def test_stacking_single_image_is_left_to_the_library() -> None:
    convolution, image = nn.Conv2d(2, 4, 3), torch.randn(2, 5, 5)
    expected = functional.max_pool2d(convolution(image), 2)
    with StackableOperations():
        assert torch.equal(functional.max_pool2d(convolution(image), 2), expected)


def test_stacking_arguments_may_be_given_by_name() -> None:
    torch.manual_seed(0)
    weights, images = torch.randn(3, 4, 2, 3, 3), torch.randn(3, 5, 2, 8, 8)

    def compute(weight, image):
        convolved = functional.conv2d(input=image, weight=weight, padding=1)
        return functional.adaptive_avg_pool2d(
            input=functional.max_pool2d(input=convolved, kernel_size=2), output_size=1
        )

    expected = vmap(compute)(weights, images)
    with StackableOperations():
        torch.testing.assert_close(vmap(compute)(weights, images), expected)
