"""Builds the full network of a configuration, with its norms."""

import copy
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from aequa_lightning.backbones import Backbone, NetworkSource, build_backbone
from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import group_norm_from_batch_norm, without_running_statistics

Norm = Literal["shared", "private", "static", "group"]
Options = dict[str, int | float | str | bool | list[int]]


def full_network(
    num_classes: int,
    input_shape: Sequence[int],
    *,
    vocabulary_size: int | None,
    backbone: Backbone,
    backbone_options: Options | None,
    norm: Norm,
    channels_per_group: int,
    output_shape: Sequence[int] | None = None,
) -> tuple[nn.Module, Tensor]:
    """Return a fresh network and an input that it can run on.

    Args:
        num_classes: Number of outputs: classes, labels, tokens or numbers.
        input_shape: Shape of one input without the batch.
        vocabulary_size: Number of different tokens, where an input is a row of token numbers; None where it is not.
        backbone: What :func:`~aequa_lightning.backbones.build_backbone` takes.
        backbone_options: Keyword arguments of the backbone.
        norm: Treatment of batch norms: ``static`` ones normalise by the batch in evaluation too, ``group`` replaces
            them by group norms; the others leave them unchanged.
        channels_per_group: Channels of such a group, a divisor of every layer's.
        output_shape: Shape that the output for one input must have; None: any.

    Raises:
        InputError: An option is out of range, the network gives outputs of another shape, or there are no batch norms.

    Example:
        >>> options = dict(vocabulary_size=None, backbone_options=None, norm="static", channels_per_group=16)
        >>> network, example = full_network(10, (1, 8, 8), backbone="cnn3", **options)
        >>> network[1].track_running_stats, example.shape
        (False, torch.Size([1, 1, 8, 8]))
    """
    given: dict[str, Any] = {} if vocabulary_size is None else {"vocabulary_size": vocabulary_size}
    clash = sorted({"num_classes", "input_shape", *given} & set(backbone_options or {}))
    if clash:
        raise InputError(f"model.backbone_options: {clash[0]} comes from the data; leave it out.")
    network = build_backbone(
        backbone, num_classes=num_classes, input_shape=tuple(input_shape), **given, **(backbone_options or {})
    )
    # Token 0 is padding, which networks mask.
    example = torch.ones(1, *input_shape, dtype=torch.int64) if given else torch.zeros(1, *input_shape)
    _check_outputs(network, example, output_shape, NetworkSource(backbone).name)
    return _with_norm(network, norm, channels_per_group), example


def _check_outputs(network: nn.Module, example: Tensor, expected: Sequence[int] | None, backbone: str) -> None:
    """Raise an InputError for a network that cannot take its inputs, or whose outputs have an unexpected shape."""
    trial = copy.deepcopy(network).eval()
    try:
        with torch.no_grad():
            outputs = trial(torch.cat([example, example]))
    except Exception as error:
        raise InputError(
            f"model.backbone={backbone!r} cannot take inputs of shape {tuple(example.shape[1:])}: {error}"
        ) from error
    found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if expected is not None and found != (2, *expected):
        meaning = ": a number for each of the data's classes" if len(expected) == 1 else ""
        raise InputError(
            f"model.backbone={backbone!r} gives {found} for 2 inputs, expected are {(2, *expected)}{meaning}."
        )


def _with_norm(network: nn.Module, norm: Norm, channels_per_group: int) -> nn.Module:
    """Return the network with the batch norms of a norm policy."""
    if norm not in get_args(Norm):
        raise InputError(f"model.norm={norm!r} is unknown; choose one of {', '.join(get_args(Norm))}.")
    if norm != "shared" and not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules()):
        raise InputError(f"model.norm={norm!r} is for batch norms, and this backbone has none; leave it at 'shared'.")
    if norm == "static":
        return without_running_statistics(network)
    return group_norm_from_batch_norm(network, channels_per_group) if norm == "group" else network
