"""ResNet-18, VGG-11, MobileNetV2 and a tiny vision transformer from torchvision, for small images."""

from collections.abc import Callable

from torch import nn
from torchvision.models import MobileNetV2, VisionTransformer
from torchvision.models import resnet18 as torchvision_resnet18
from torchvision.models.vgg import cfgs, make_layers

from aequa_lightning.backbones.cnn import image_shape
from aequa_lightning.errors import InputError


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


def vgg11(num_classes: int, input_shape: tuple[int, ...], *, norm: str = "batch") -> nn.Module:
    """Return the convolutions of VGG-11 with one hidden layer of 512 units behind them.

    The original has two of 4,096, made for the 7x7 places that an image of 224 pixels leaves; 32 pixels leave one.
    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
    configuration A.

    Args:
        num_classes: Outputs.
        input_shape: (channels, height, width); height and width of at least 32.
        norm: ``"batch"`` for BatchNorm after each convolution, ``"none"`` for none.

    Raises:
        InputError: When the images are too small or the norm is unknown.

    Example:
        >>> vgg11(10, (3, 32, 32))[-1]
        Linear(in_features=512, out_features=10, bias=True)
    """
    planes, height, width = image_shape("vgg11", input_shape)
    if min(height, width) < 32:
        raise InputError(f"input_shape: {input_shape} is too small for 'vgg11' (32x32 at least)")
    if norm not in ("batch", "none"):
        raise InputError(f"norm: {norm!r} is unknown to 'vgg11'; choose 'batch' or 'none'")
    layers = make_layers(cfgs["A"], batch_norm=norm == "batch")
    layers[0] = nn.Conv2d(planes, 64, 3, padding=1)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):  # as torchvision: without it, signals vanish in deep networks without norms
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(512, num_classes),
    )


def mobilenet_v2(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Return torchvision's MobileNetV2; for images of at most 64 pixels its first two halvings are left out.

    Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2.

    Args:
        num_classes: Outputs.
        input_shape: (channels, height, width).

    Example:
        >>> mobilenet_v2(10, (3, 32, 32)).classifier[1]
        Linear(in_features=1280, out_features=10, bias=True)
    """
    planes, height, width = image_shape("mobilenet_v2", input_shape)
    first = 1 if max(height, width) <= 64 else 2
    # Expansion, channels, blocks, stride of the first block.
    stages = [
        [1, 16, 1, 1],
        [6, 24, 2, first],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    network: nn.Module = MobileNetV2(num_classes=num_classes, inverted_residual_setting=stages)
    network.features[0][0] = nn.Conv2d(planes, 32, 3, stride=first, padding=1, bias=False)  # type: ignore[index,assignment]
    return network


def vit_tiny(
    num_classes: int, input_shape: tuple[int, ...], *, patch: int = 4, depth: int = 12, heads: int = 3
) -> nn.Module:
    """Return torchvision's vision transformer in the size Tiny: 192 channels, 768 in the perceptrons.

    A width keeps whole heads; with 3 of them, the stream of 192 channels has three sizes and the perceptrons many.
    Source: Touvron et al., "Training data-efficient image transformers", ICML 2021, table 1.

    Args:
        num_classes: Outputs.
        input_shape: (channels, height, width), square.
        patch: Side of a patch in pixels; divides that of the image.
        depth: Layers.
        heads: Attention heads of a layer; a divisor of 192.

    Raises:
        InputError: When the patches do not fill the image, or the heads do not divide the channels.

    Example:
        >>> vit_tiny(10, (3, 32, 32), depth=1).heads[0]
        Linear(in_features=192, out_features=10, bias=True)
    """
    planes, height, width = image_shape("vit_tiny", input_shape)
    if height != width or height % patch:
        raise InputError(f"input_shape: {input_shape} is not filled by patches of {patch}x{patch}; set another patch")
    if 192 % heads:
        raise InputError(f"heads: {heads} do not divide the 192 channels; choose 3, 6 or 12")
    network: nn.Module = VisionTransformer(
        image_size=height,
        patch_size=patch,
        num_layers=depth,
        num_heads=heads,
        hidden_dim=192,
        mlp_dim=768,
        num_classes=num_classes,
    )
    if planes != 3:
        network.conv_proj = nn.Conv2d(planes, 192, patch, stride=patch)
    return network
