"""The ranges of the options that all data sets have."""

import torch
from torch import Tensor

from aequa_lightning.errors import InputError

# Each participant has files of its own in the run folder.
MAX_PARTICIPANTS = 1_000_000


def check_numbers(
    *,
    participants: int,
    batch_size: int,
    min_samples: int,
    train_samples: int | None,
    test_samples: int | None,
    validation_share: float,
    partition_seed: int,
) -> None:
    """Check the numbers; see `CollaborativeData` for the arguments.

    Raises:
        InputError: One is out of range.
    """
    counts = {"participants": participants, "batch_size": batch_size, "min_samples": min_samples}
    for key, value in counts.items():
        if value < 1:
            raise InputError(f"data.{key} is {value}; it must be at least 1")
    if participants > MAX_PARTICIPANTS:
        raise InputError(f"data.participants is {participants}; it must be at most {MAX_PARTICIPANTS}")
    for key, samples in {"train_samples": train_samples, "test_samples": test_samples}.items():
        if samples is not None and samples < 1:
            raise InputError(f"data.{key} is {samples}; it must be at least 1, or null for all")
    if not 0 < validation_share < 1:
        raise InputError(
            f"data.validation_share is {validation_share}; it must lie between 0 and 1, for contributions and"
            " widths are decided on that part"
        )
    if partition_seed < 0:
        raise InputError(f"data.partition_seed is {partition_seed}; it must be at least 0")


def check_kind(inputs: Tensor, *, owner: str, augment: bool, noisy: bool) -> None:
    """Check that the kind of samples supports augmentation and noise, where they are asked for.

    Args:
        inputs: Of the training part.
        owner: Name of the data's class, for messages.
        augment: Whether training images are shifted and mirrored.
        noisy: Whether noise is added to inputs.

    Raises:
        InputError: It does not.
    """
    kind = f"a sample of {owner} has type {inputs.dtype} and shape {tuple(inputs.shape[1:])}"
    if augment and inputs.ndim != 4:
        raise InputError(f"data.augment shifts images, but {kind}; set it to false")
    if noisy and inputs.dtype == torch.int64:
        raise InputError(f"data.feature_noise is added to numbers, but {kind}; set it to 0")
