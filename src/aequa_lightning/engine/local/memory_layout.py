"""How numbers lie in memory, for speed; no value depends on it."""

import torch
from torch import Tensor


def channels_last(inputs: Tensor) -> Tensor:
    """Lay images out with the channels last, for which convolutions are faster on CPU and GPU alike.

    Weights keep their layout, which is that of the flat vector; the library turns them as it needs.

    Args:
        inputs: Any shape; what has not the four dimensions of images is returned as it is.

    Example:
        >>> channels_last(torch.zeros(2, 3, 4, 4)).stride()
        (48, 1, 12, 3)
        >>> channels_last(torch.zeros(2, 1, 4, 4)).stride()
        (16, 1, 4, 1)
    """
    if inputs.ndim != 4:
        return inputs
    if inputs.shape[1] == 1:
        # The numbers lie alike in both layouts, and strides alone tell the library which one is meant.
        height, width = inputs.shape[2:]
        return inputs.contiguous().as_strided(inputs.shape, (height * width, 1, width, 1))
    return inputs.contiguous(memory_format=torch.channels_last)
