"""Small convolutional networks and the multilayer perceptron."""

import math
from itertools import pairwise

from torch import nn

from aequa_lightning.errors import InputError


def mlp(num_classes: int, input_shape: tuple[int, ...], *, hidden: tuple[int, ...] = (128, 64)) -> nn.Module:
    """Return a multilayer perceptron with ReLU.

    Args:
        num_classes: Outputs.
        input_shape: Shape of one sample, flattened at the input.
        hidden: Units of each hidden layer.

    Example:
        >>> mlp(10, (1, 8, 8), hidden=(32,))[-1]
        Linear(in_features=32, out_features=10, bias=True)
    """
    sizes = (math.prod(input_shape), *hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))


def cnn(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Return the paper's CNN: two 5x5 convolutions of 6 and 16 channels with pooling, then 120 and 84 units.

    Images of 28 pixels are padded to 32, as in LeNet-5. Source: LeCun et al., "Gradient-Based Learning Applied to
    Document Recognition", 1998, section II.B, with ReLU and maximum pooling.

    Args:
        num_classes: Outputs.
        input_shape: (channels, height, width); height and width of at least 16.

    Raises:
        InputError: When the images are too small for two 5x5 convolutions with pooling.

    Example:
        >>> cnn(10, (1, 28, 28))[7]
        Linear(in_features=400, out_features=120, bias=True)
    """
    planes, height, width = image_shape("cnn", input_shape)
    padding = 2 if height == width == 28 else 0
    rows, columns = ((((side + 2 * padding - 4) // 2) - 4) // 2 for side in (height, width))
    if min(rows, columns) < 1:
        raise InputError(f"input_shape: {input_shape} is too small for 'cnn' (16x16 at least); 'cnn3' takes 8x8")
    return nn.Sequential(
        nn.Conv2d(planes, 6, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * rows * columns, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )


def cnn3(num_classes: int, input_shape: tuple[int, ...], *, channels: int = 16, norm: str = "batch") -> nn.Module:
    """Return a CNN of three 3x3 convolutions, each with twice the channels of the one before, for images from 8x8 on.

    Args:
        num_classes: Outputs.
        input_shape: (channels, height, width); height and width of at least 4.
        channels: Channels of the first convolution.
        norm: ``"batch"`` for BatchNorm after each convolution, ``"none"`` for none.

    Raises:
        InputError: When the images are too small or the norm is unknown.

    Example:
        >>> cnn3(10, (1, 8, 8))[-1]
        Linear(in_features=64, out_features=10, bias=True)
    """
    planes, height, width = image_shape("cnn3", input_shape)
    if min(height, width) < 4:
        raise InputError(f"input_shape: {input_shape} is too small for 'cnn3' (4x4 at least)")
    if norm not in ("batch", "none"):
        raise InputError(f"norm: {norm!r} is unknown to 'cnn3'; choose 'batch' or 'none'")
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((planes, channels, 2 * channels, 4 * channels)):
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU())
        if outputs < 4 * channels:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * channels, num_classes))


def image_shape(name: str, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return an image's channels, height and width.

    Raises:
        InputError: When the input shape is not that of an image.
    """
    if len(input_shape) != 3:
        raise InputError(f"input_shape: {input_shape} is no image; {name!r} needs (channels, height, width)")
    planes, height, width = input_shape
    return planes, height, width
