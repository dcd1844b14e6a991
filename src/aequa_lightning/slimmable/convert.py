"""Copies of a network with norms that keep no running statistics, which no width then needs for itself."""

import copy

from torch import nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable.norm import RunningNorm

BatchNorm = nn.modules.batchnorm._BatchNorm


def group_norm_from_batch_norm(module: nn.Module, channels_per_group: int = 16) -> nn.Module:
    """Return a copy of a network with a group norm in place of every batch norm.

    All widths have the same number of channels in a group, so that a width normalises its groups as the full network
    does, and no width needs statistics of its own. The affine parameters are copied. The outputs change: train the
    network afterwards. Source: Wu and He, "Group Normalization", ECCV 2018.

    Args:
        module: Any network; it stays as it is.
        channels_per_group: Channels that are normalised together, >= 1; also the step in which widths cut them.

    Raises:
        InputError: When a layer's channels do not divide into such groups.

    Example:
        >>> group_norm_from_batch_norm(nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32)))[1].num_groups
        2
    """
    if channels_per_group < 1:
        raise InputError(f"channels_per_group: {channels_per_group} is not a number of channels; give 1 or more")
    memo: dict[int, object] = {}
    for name, part in module.named_modules():
        if isinstance(part, BatchNorm):
            memo[id(part)] = _group_norm(name, part, channels_per_group)
    # deepcopy puts the replacements wherever the norm layers are referred to.
    return copy.deepcopy(module, memo)


def without_running_statistics(module: nn.Module) -> nn.Module:
    """Return a copy of a network whose batch and instance norms use the statistics of the batch in evaluation too.

    No width needs statistics of its own then. But an output depends on the other inputs of its batch: give batches
    that are large and mixed as in training. One input alone is normalised by itself, which fails where a layer sees
    one value per channel. (Static batch norm of Diao et al., "HeteroFL", ICLR 2021, measures statistics after
    training, as a network with running statistics does when it is recalibrated.)

    Args:
        module: Any network; it stays as it is.

    Example:
        >>> without_running_statistics(nn.BatchNorm1d(4)).running_mean is None
        True
    """
    duplicate = copy.deepcopy(module)
    for part in duplicate.modules():
        if isinstance(part, RunningNorm):
            part.track_running_stats = False
            for key in list(part._buffers):
                setattr(part, key, None)
    return duplicate


def _group_norm(name: str, norm: BatchNorm, size: int) -> nn.GroupNorm:
    if norm.num_features % size:
        raise InputError(
            f"channels_per_group: the {norm.num_features} channels of layer {name!r} do not divide into groups of "
            f"{size}; give a divisor that all layers share"
        )
    group_norm = nn.GroupNorm(norm.num_features // size, norm.num_features, eps=norm.eps, affine=norm.affine)
    group_norm.train(norm.training)
    if norm.affine:
        group_norm.weight, group_norm.bias = copy.deepcopy(norm.weight), copy.deepcopy(norm.bias)
    return group_norm
