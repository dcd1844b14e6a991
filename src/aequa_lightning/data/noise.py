"""Noise on participants' data: Gaussian noise on inputs, wrong labels (Li et al., ICDE 2022, section IV)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aequa_lightning.errors import InputError


def noise_levels(setting: float | Sequence[float], participants: int, key: str) -> list[float]:
    """Turn a setting into a level for each participant.

    Args:
        setting: The last participant's level, with levels rising evenly from 0 for the first; or a level for each
            participant.
        participants: Number of participants, at least 1.
        key: The setting's key, for the error message.

    Returns:
        A level for each participant, at least 0.

    Raises:
        InputError: When a level is negative or not finite, or when there are not as many as participants.

    Example:
        >>> noise_levels(0.5, 3, "data.feature_noise")
        [0.0, 0.25, 0.5]
    """
    levels = np.linspace(0, setting, participants).tolist() if isinstance(setting, int | float) else list(setting)
    if len(levels) != participants:
        raise InputError(f"{key} has {len(levels)} levels for {participants} participants; give one each, or a number")
    if not all(0 <= level < float("inf") for level in levels):
        raise InputError(f"{key} is {setting}; levels must be finite and at least 0")
    return levels


def add_gaussian_noise(inputs: Tensor, level: float, generator: np.random.Generator) -> None:
    """Add independent Gaussian noise to float32 inputs in place.

    Args:
        inputs: Any shape; changed.
        level: Standard deviation in the inputs' unit (1 where they are normalised), at least 0.
        generator: Source of the noise.

    Example:
        >>> inputs = torch.zeros(10_000)
        >>> add_gaussian_noise(inputs, 2.0, np.random.default_rng(0))
        >>> round(inputs.std().item(), 1)
        2.0
    """
    if level > 0:
        inputs += level * torch.from_numpy(generator.standard_normal(inputs.shape, dtype=np.float32))


def corrupt_labels(targets: Tensor, share: float, num_classes: int, generator: np.random.Generator) -> None:
    """Replace a share of the labels, in place, each by one of the other classes with equal chance.

    Args:
        targets: Classes, int64, shape (samples,); changed.
        share: Part of the labels to replace, in [0, 1], rounded to whole samples.
        num_classes: Number of classes, at least 2.
        generator: Source of the choice.

    Example:
        >>> targets = torch.zeros(8, dtype=torch.int64)
        >>> corrupt_labels(targets, 0.5, 3, np.random.default_rng(0))
        >>> (targets > 0).sum().item()
        4
    """
    chosen = torch.from_numpy(generator.permutation(len(targets))[: round(share * len(targets))])
    shift = torch.from_numpy(generator.integers(1, num_classes, size=len(chosen)))
    targets[chosen] = (targets[chosen] + shift) % num_classes
