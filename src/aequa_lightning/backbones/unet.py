"""A small U-Net for segmentation."""

import torch
from torch import Tensor, nn


def unet(num_classes: int, input_shape: tuple[int, ...], *, channels: int = 16) -> nn.Module:
    """Build a U-Net of two levels: skip connections, transposed convolutions, batch norms.

    Args:
        num_classes: Classes of a pixel.
        input_shape: Shape of one image, (channels, height, width); height and width are multiples of 4.
        channels: Channels of the first level; the second has twice, the bottom four times as many.

    Example:
        >>> unet(4, (1, 8, 8))(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 4, 8, 8])
    """
    return UNet(num_classes, input_shape[0], channels)


def _block(read: int, kept: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (read, kept):
        layers += [nn.Conv2d(channels, kept, 3, padding=1, bias=False), nn.BatchNorm2d(kept), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """The network of :func:`unet` (Ronneberger et al., MICCAI 2015, in small).

    Args:
        num_classes: Classes of a pixel.
        read: Channels of the images.
        channels: Channels of the first level.
    """

    def __init__(self, num_classes: int, read: int, channels: int) -> None:
        super().__init__()
        self.first, self.second = _block(read, channels), _block(channels, 2 * channels)
        self.bottom = _block(2 * channels, 4 * channels)
        self.pool = nn.MaxPool2d(2)
        self.up_second = nn.ConvTranspose2d(4 * channels, 2 * channels, 2, stride=2)
        self.up_first = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.join_second, self.join_first = _block(4 * channels, 2 * channels), _block(2 * channels, channels)
        self.head = nn.Conv2d(channels, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes, height, width) of images (batch, channels, height, width)."""
        first = self.first(images)
        second = self.second(self.pool(first))
        bottom = self.bottom(self.pool(second))
        second = self.join_second(torch.cat([self.up_second(bottom), second], 1))
        first = self.join_first(torch.cat([self.up_first(second), first], 1))
        logits: Tensor = self.head(first)
        return logits
