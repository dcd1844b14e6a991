"""A name for everything that decides what participants make of where they start."""

import hashlib

import torch

from aequa_lightning import __version__
from aequa_lightning.collaboration.local import LocalTrainer
from aequa_lightning.collaboration.local_work import LocalWork
from aequa_lightning.data import CollaborativeData


def training_key(
    local: LocalTrainer, data: CollaborativeData, *, work: LocalWork, rounds: int, compiled: bool = False
) -> str:
    """Return a name for everything that decides what participants make of a start: equal names, equal results.

    Args:
        local: Trains them; its present parameters are where they start.
        data: Their samples, and those that they are scored on.
        work: What each of them does in a round.
        rounds: How many rounds they do.
        compiled: Whether they train compiled, which rounds differently.

    Returns:
        32 hexadecimal digits.
    """
    settings = [
        __version__,
        torch.__version__,
        type(local.classifier),
        local.classifier.network.full,
        local.optimizer.optimizer,
        data.augmentation,
        local.batch_size,
        local.seed,
        local.fabric.device.type,
        local.fabric.strategy.precision.precision,
        local.topology.replicas,
        torch.get_num_threads(),
        work,
        rounds,
        compiled,
        [len(data.participant(index)) for index in range(data.participants)],
    ]
    name = hashlib.sha256("\n".join(map(repr, settings)).encode())
    for tensor in (
        local.parameters,
        *data.pooled().tensors,
        *data.validation().tensors,
        *data.test().tensors,
    ):
        name.update(tensor.cpu().contiguous().numpy().data)
    return name.hexdigest()[:32]
