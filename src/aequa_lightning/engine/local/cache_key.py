"""A name for everything that decides what participants make of where they start."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.local.buffers import buffers
from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.version import __version__

Options = Sequence[Mapping[str, Any]]
"""Options of each group of an optimizer's parameters."""


def training_key(
    local: LocalTrainer,
    data: CollaborativeData,
    *,
    work: LocalWork,
    schedule: Sequence[Options],
    compiled: bool = False,
) -> str:
    """Return a name for everything that decides what participants make of a start: equal names, equal results.

    Args:
        local: Trains them; its present parameters are where they start.
        data: Their samples, and those that they are scored on.
        work: What each of them does in a round.
        schedule: The optimizer's options in each round that they do.
        compiled: Whether they train compiled, which rounds differently.

    Returns:
        32 hexadecimal digits.
    """
    settings = [
        __version__,
        torch.__version__,
        type(local.classifier),
        local.classifier.network.full,
        [part.training for part in local.classifier.network.full.modules()],
        local.optimizer.optimizer,
        data.augmentation,
        local.batch_size,
        local.seed,
        local.fabric.device.type,
        local.fabric.strategy.precision.precision,
        local.topology.replicas,
        torch.get_num_threads(),
        work,
        [_plain(options) for options in schedule],
        compiled,
        [len(data.participant(index)) for index in range(data.participants)],
    ]
    name = hashlib.sha256("\n".join(map(repr, settings)).encode())
    for tensor in (
        local.parameters,
        *(parameter for parameter in local.classifier.parameters() if not parameter.requires_grad),
        *buffers(local.classifier).values(),
        *data.pooled().tensors,
        *data.validation().tensors,
        *data.test().tensors,
    ):
        name.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return name.hexdigest()[:32]


def _plain(options: Options) -> list[list[tuple[str, Any]]]:
    """Return options with numbers for tensors, of which ``repr`` would show some digits only."""
    return [
        [(key, value.tolist() if isinstance(value, Tensor) else value) for key, value in group.items()]
        for group in options
    ]
