"""Stratified splits, channel statistics and normalisation of loaded arrays."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IntArray = npt.NDArray[np.int64]


def stratified_split(
    labels: IntArray, share: float, seed: int | Sequence[int], *, leave_one: bool = False
) -> tuple[IntArray, IntArray]:
    """Take a random share of every class, at least one sample of each.

    Args:
        labels: Class of each sample, shape (samples,).
        share: Part of every class to take, in (0, 1), rounded to whole samples.
        seed: Seed of the generator, one or several numbers from 0.
        leave_one: Whether at least one sample of each class of two or more is left.

    Returns:
        The sorted indices of the samples that were taken, and of those that were left.

    Example:
        >>> taken, left = stratified_split(np.array([0] * 8 + [1] * 4), 0.25, seed=0)
        >>> len(taken), (taken < 8).sum().item(), len(left)
        (3, 2, 9)
    """
    generator = np.random.default_rng(seed)
    taken = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        most = max(1, len(members) - leave_one)
        taken[generator.permutation(members)[: min(max(1, round(share * len(members))), most)]] = True
    return np.flatnonzero(taken), np.flatnonzero(~taken)


def channel_statistics(inputs: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure mean and standard deviation per channel of images, or per feature of vectors.

    Args:
        inputs: Images (samples, channels, height, width) or vectors (samples, features); uint8 counts as 0..1.

    Returns:
        The means and the standard deviations; where a channel is constant the latter is 1.

    Example:
        >>> channel_statistics(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
        ((1.0, 5.0), (1.0, 1.0))
    """
    scale = 255 if inputs.dtype == torch.uint8 else 1
    over = [dimension for dimension in range(inputs.ndim) if dimension != 1]
    # Channel by channel, because a whole data set in double precision would take eight times its memory.
    pairs = [torch.std_mean(channel.double(), correction=0) for channel in inputs.unbind(1)]
    std, mean = (torch.stack(values) / scale for values in zip(*pairs, strict=True))
    constant = inputs.amax(over) == inputs.amin(over)
    return tuple(mean.tolist()), tuple(std.masked_fill(constant, 1).tolist())


def normalised(inputs: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Tensor:
    """Return float32 inputs, less the mean and divided by the standard deviation.

    Args:
        inputs: Images (samples, channels, height, width) or vectors (samples, features), uint8 (counts as 0..1),
            float32 or float64; or token numbers as int64, which are returned as they are.
        mean: A number per channel or feature; ignored for token numbers.
        std: Likewise, above 0.

    Returns:
        A tensor of the same shape.

    Example:
        >>> normalised(torch.tensor([[[[0]], [[255]]]], dtype=torch.uint8), (0.5, 0.5), (0.5, 0.25)).flatten()
        tensor([-1.,  2.])
    """
    if inputs.dtype == torch.int64:
        return inputs
    scale = 255 if inputs.dtype == torch.uint8 else 1
    shape = (-1, *(1 for _ in range(inputs.ndim - 2)))
    # float64 inputs are centred in float64: values that vary little around a large mean would lose their digits.
    kind = torch.float64 if inputs.dtype == torch.float64 else torch.float32
    centred = inputs.to(kind) - scale * torch.tensor(mean, dtype=kind).view(shape)
    return centred.div_(scale * torch.tensor(std, dtype=kind).view(shape)).float()
