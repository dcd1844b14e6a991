"""ResNet-18 from torchvision, for small images, with batch or group norm."""

from collections.abc import Callable

from torch import nn
from torchvision.models import resnet18 as torchvision_resnet18

from aequa_lightning.backbones.cnn import image_shape


def resnet18(
    num_classes: int, input_shape: tuple[int, ...], *, norm_layer: Callable[[int], nn.Module] | None = None
) -> nn.Module:
    """Return torchvision's ResNet-18; for images of at most 64 pixels with a 3x3 stem that keeps their size.

    Args:
        num_classes: Outputs.
        input_shape: (channels, height, width).
        norm_layer: Makes a norm layer of so many channels; by default BatchNorm.

    Example:
        >>> resnet18(10, (3, 32, 32)).conv1.stride
        (1, 1)
    """
    planes, height, width = image_shape("resnet18", input_shape)
    network: nn.Module = torchvision_resnet18(num_classes=num_classes, norm_layer=norm_layer)
    if max(height, width) <= 64:
        network.conv1 = nn.Conv2d(planes, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif planes != 3:
        network.conv1 = nn.Conv2d(planes, 64, 7, stride=2, padding=3, bias=False)
    return network


def resnet18_gn(num_classes: int, input_shape: tuple[int, ...], *, channels_per_group: int = 16) -> nn.Module:
    """Return ResNet-18 with GroupNorm.

    Source: Wu and He, "Group Normalization", ECCV 2018, section 4.1 (16 channels a group).

    Args:
        num_classes: Outputs.
        input_shape: (channels, height, width).
        channels_per_group: A divisor of 64; widths round to whole groups.

    Example:
        >>> resnet18_gn(10, (3, 32, 32)).bn1.num_groups
        4
    """
    return resnet18(num_classes, input_shape, norm_layer=lambda count: nn.GroupNorm(count // channels_per_group, count))
