"""Networks by name, and user-written ones by import path."""

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

from aequa_lightning.backbones.cnn import cnn, cnn3, mlp
from aequa_lightning.backbones.loading import check_import
from aequa_lightning.backbones.pooling import pool_first
from aequa_lightning.backbones.text import bilstm, text_cnn
from aequa_lightning.backbones.vision import mobilenet_v2, resnet18, resnet18_gn, vgg11, vit_tiny
from aequa_lightning.errors import InputError

__all__ = ["BACKBONES", "build_backbone"]

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "cnn3": cnn3,
    "resnet18": resnet18,
    "resnet18_gn": resnet18_gn,
    "vgg11": vgg11,
    "mobilenet_v2": mobilenet_v2,
    "vit_tiny": vit_tiny,
    "bilstm": bilstm,
    "text_cnn": text_cnn,
}


def build_backbone(name: str, /, *, num_classes: int, input_shape: tuple[int, ...], **options: Any) -> nn.Module:
    """Return a fresh network, in which max pooling comes before a ReLU (see :func:`~.pooling.pool_first`).

    Args:
        name: One of the names in ``BACKBONES``, or ``"package.module:function"`` for a user-written function that is
            called with the same arguments.
        num_classes: Outputs of the network, >= 1.
        input_shape: Shape of one sample, without the batch.
        **options: Further arguments of the network's function.

    Raises:
        InputError: When there is no such network, or it does not know an option.

    Example:
        >>> build_backbone("mlp", num_classes=3, input_shape=(4,), hidden=(8,))[-1]
        Linear(in_features=8, out_features=3, bias=True)
    """
    factory = BACKBONES.get(name) or _imported(name)
    try:
        network = factory(num_classes=num_classes, input_shape=tuple(input_shape), **options)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"model.backbone={name!r} cannot be built with the options {options}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(f"model.backbone={name!r} returns {type(network).__name__}; return a torch.nn.Module.")
    return pool_first(network)


def _imported(name: str) -> Callable[..., nn.Module]:
    """Return a function by its import path."""
    module, colon, function = name.partition(":")
    if not colon:
        raise InputError(
            f"backbone: {name!r} is unknown; choose one of {', '.join(BACKBONES)}, "
            "or name a function of your own as 'package.module:function'"
        )
    check_import(name)
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # an import may run any code
        raise InputError(f"model.backbone={name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise InputError(f"model.backbone={name!r} is no function; name one that returns a torch.nn.Module.")
    return found  # type: ignore[no-any-return]
