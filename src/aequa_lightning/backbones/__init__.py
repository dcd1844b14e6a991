"""Networks by name, and those of one's own by import path or as objects."""

from typing import Any

from torch import nn

from aequa_lightning.backbones.pooling import pool_first
from aequa_lightning.backbones.source import BACKBONES, Backbone, NetworkSource

__all__ = ["BACKBONES", "Backbone", "NetworkSource", "build_backbone"]


def build_backbone(
    backbone: Backbone, /, *, num_classes: int, input_shape: tuple[int, ...], **options: Any
) -> nn.Module:
    """Return a fresh network, in which max pooling comes before a ReLU (see :func:`~.pooling.pool_first`).

    Args:
        backbone: One of the names in ``BACKBONES``, ``"package.module:function"`` for a user-written function that is
            called with the same arguments, or such a function, a class or a network itself.
        num_classes: Outputs of the network, >= 1.
        input_shape: Shape of one sample, without the batch.
        **options: Further arguments of the network's function.

    Raises:
        InputError: When there is no such network, or it does not know an option.

    Example:
        >>> build_backbone("mlp", num_classes=3, input_shape=(4,), hidden=(8,))[-1]
        Linear(in_features=8, out_features=3, bias=True)
        >>> build_backbone(nn.Linear(4, 3), num_classes=3, input_shape=(4,))
        Linear(in_features=4, out_features=3, bias=True)
    """
    source = NetworkSource(backbone)
    return pool_first(source.build(num_classes=num_classes, input_shape=tuple(input_shape), **options))
