"""A hash of everything that determines the result of local training, used as a key of cached results."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.local.buffers import buffers
from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.version import __version__

Options = Sequence[Mapping[str, Any]]
"""An optimizer's options, one mapping for each parameter group."""


def training_key(
    local: LocalTrainer,
    data: CollaborativeData,
    *,
    work: LocalWork,
    schedule: Sequence[Options],
    compiled: bool = False,
) -> str:
    """Return a hash of everything that determines the result of participants' local training.

    Equal keys mean equal results. Software versions, the type of device and the number of threads are part of it,
    because they influence rounding.

    Args:
        local: The local trainer; its present parameters are the initial ones.
        data: Training samples of the participants, validation and test samples.
        work: Local work of each participant in a round.
        schedule: The optimizer's options in each round.
        compiled: Whether the network is compiled, which changes rounding.

    Returns:
        32 hexadecimal digits, of which the last 16 stand for the parameters and buffers that training starts from.
    """
    settings = [
        __version__,
        torch.__version__,
        type(local.classifier),
        local.classifier.network.full,
        local.classifier.task_settings,
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
        data.sample_counts(),
    ]
    frozen = (parameter for parameter in local.classifier.parameters() if not parameter.requires_grad)
    start = (local.parameters, *frozen, *buffers(local.classifier).values())
    samples = (*data.training_tensors(), *data.validation().tensors, *data.test().tensors)
    return _digest("\n".join(map(repr, settings)), samples) + _digest("", start)


def _digest(text: str, tensors: Iterable[Tensor]) -> str:
    """Return 16 hexadecimal digits of a hash of a text and of tensors."""
    name = hashlib.sha256(text.encode())
    for tensor in tensors:
        name.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return name.hexdigest()[:16]


def _plain(options: Options) -> list[list[tuple[str, Any]]]:
    """Replace tensors by plain numbers, because the ``repr`` of a tensor shows few digits."""
    return [
        [(key, value.tolist() if isinstance(value, Tensor) else value) for key, value in group.items()]
        for group in options
    ]
