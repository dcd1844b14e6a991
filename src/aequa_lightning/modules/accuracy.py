"""Accuracy in the logs of Lightning's own Trainer."""

from lightning import LightningModule
from torch import Tensor


def log_accuracy(module: LightningModule, name: str, logits: Tensor, targets: Tensor) -> None:
    """Log the accuracy of an epoch, over all batches and processes, each sample counted once.

    Args:
        module: In a step of Lightning's Trainer.
        name: Name of the metric.
        logits: Shape (batch, num_classes).
        targets: Classes, int64 of shape (batch,).
    """
    right = (logits.argmax(-1) == targets).float().mean()
    module.log(name, right, on_step=False, on_epoch=True, batch_size=len(targets), sync_dist=True)
