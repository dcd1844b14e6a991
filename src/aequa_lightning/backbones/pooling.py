"""Max pooling before a ReLU: the same numbers for less work."""

from itertools import pairwise

from torch import nn


def pool_first(network: nn.Module) -> nn.Module:
    """Exchange every ReLU of an ``nn.Sequential`` with a max pooling that follows it, in place.

    ReLU keeps the order of numbers, so the largest of a window is found before it as well as after it, and where all
    are negative no gradient passes either way: outputs and gradients are the same to the bit. With
    windows of 2x2, however, ReLU has a quarter of the numbers to read and write.

    Args:
        network: Any; layers with parameters keep their names.

    Returns:
        The network itself.

    Example:
        >>> pool_first(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)))
        Sequential(
          (0): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))
          (1): MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)
          (2): ReLU()
        )
    """
    for part in network.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for place, (activation, pooling) in enumerate(pairwise(list(part))):
            if type(activation) is nn.ReLU and type(pooling) is nn.MaxPool2d and not pooling.return_indices:
                part[place], part[place + 1] = pooling, activation
    return network
