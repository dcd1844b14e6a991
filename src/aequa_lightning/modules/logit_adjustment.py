"""Logit adjustment: a loss that expects a participant's classes as often as its own data hold them.

A network trained on few samples of a class learns to hardly ever predict it. If the loss adds the logarithm of each
class's share to the logits, the shares need not be learned: the raw logits then suit data with equal shares, such as
those of the others together. Sources: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, section 4.2;
for federated averaging, with another form of the margin, Zhang et al., "Federated Learning with Label Distribution Skew
via Logits Calibration", ICML 2022.
"""

import torch
from torch import Tensor


def class_offsets(targets: Tensor, *, num_classes: int, strength: float) -> Tensor | None:
    """Return what is added to the logits of each class within the loss.

    Args:
        targets: Classes of one participant's training data, int64 of any shape; negative ones do not count.
        num_classes: Number of classes, K.
        strength: Factor tau, >= 0.

    Returns:
        ``tau log((n_k + 0.5) / (n + 0.5 K))``, float32 of shape (K,), where n_k of the n targets are of class k; None
        where tau is 0.

    Example:
        >>> class_offsets(torch.tensor([0, 0, 0, 1]), num_classes=4, strength=1.0).exp()
        tensor([0.5833, 0.2500, 0.0833, 0.0833])
    """
    if not strength:
        return None
    counts = torch.bincount(targets[targets >= 0].flatten(), minlength=num_classes).float()
    return strength * ((counts + 0.5) / (counts.sum() + 0.5 * num_classes)).log()


def adjusted(logits: Tensor, offsets: Tensor | None) -> Tensor:
    """Return logits with a participant's offsets, or those of several participants at once.

    Args:
        logits: Shape (batch, K, ...), or (participants, batch, K, ...).
        offsets: Shape (K,), or (participants, K); None: the logits stay as they are.

    Example:
        >>> adjusted(torch.zeros(2, 2), torch.tensor([0.0, -1.0])).tolist()
        [[0.0, -1.0], [0.0, -1.0]]
        >>> adjusted(torch.zeros(2, 1, 2), torch.tensor([[0.0, -1.0], [-2.0, 0.0]])).tolist()
        [[[0.0, -1.0]], [[-2.0, 0.0]]]
    """
    if offsets is None:
        return logits
    positions = (1,) * (logits.ndim - offsets.ndim - 1)
    return logits + offsets.to(logits.dtype).view(*offsets.shape[:-1], 1, offsets.shape[-1], *positions)
