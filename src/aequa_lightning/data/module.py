"""The base of all data sets: load, keep a validation part for the server, divide the rest among participants."""

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from aequa_lightning.data.partition import Homogeneous, IntArray, Partition
from aequa_lightning.errors import InputError

Batch = tuple[Tensor, Tensor]


class Split(NamedTuple):
    """One part of a data set as it was loaded.

    Attributes:
        inputs: Images as uint8 (scaled to [0, 1] later) or float32, shape (samples, channels, height, width); vectors
            as float32, shape (samples, features); or token numbers as int64, shape (samples, length).
        targets: Classes, int64, shape (samples,).
        groups: The data set's own grouping of its samples, such as the writer, shape (samples,); None without one.
    """

    inputs: Tensor
    targets: Tensor
    groups: IntArray | None = None


class CollaborativeData(LightningDataModule):
    """A data set divided among participants, with a validation part for the server and a test part for the report.

    The validation part is taken out of the *training* part, stratified by class: nothing is decided on test data.
    Everything is kept in memory as tensors. A subclass implements `load` and sets ``num_classes``, ``input_shape``
    and, where known, ``mean`` and ``std``. Data sets with a download do it in ``prepare_data``, which one process
    calls before ``setup``, as Lightning does.

    Args:
        participants: How many participants share the training part, at least 1.
        partition: The rule that divides it; None deals every class out evenly.
        validation_share: Part of every class that the server keeps for validation, in (0, 1).
        batch_size: Samples in a batch of the loaders.
        min_samples: The fewest samples a participant may hold, at least 1.
        partition_seed: Seed of the validation part and of the partition; the seed of the training is another one.

    Attributes:
        num_classes: Number of classes, known after construction.
        input_shape: Shape of one sample without the batch dimension, known after construction.
        names: A name per participant, fit for file names.
        mean: Mean that is taken off, per channel or feature; None before ``setup`` where it is measured, and always
            for token numbers.
        std: Standard deviation that is divided by, likewise.
    """

    num_classes: int
    input_shape: tuple[int, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __init__(
        self,
        *,
        participants: int = 10,
        partition: Partition | None = None,
        validation_share: float = 0.2,
        batch_size: int = 32,
        min_samples: int = 10,
        partition_seed: int = 0,
    ) -> None:
        super().__init__()
        for key, value in (("participants", participants), ("batch_size", batch_size), ("min_samples", min_samples)):
            if value < 1:
                raise InputError(f"data.{key} is {value}; it must be at least 1")
        if not 0 < validation_share < 1:
            raise InputError(
                f"data.validation_share is {validation_share}; it must lie between 0 and 1, for contributions and"
                " widths are decided on that part"
            )
        if partition_seed < 0:
            raise InputError(f"data.partition_seed is {partition_seed}; it must be at least 0")
        self.participants = participants
        self.partition = partition or Homogeneous()
        self.validation_share = validation_share
        self.batch_size = batch_size
        self.min_samples = min_samples
        self.partition_seed = partition_seed
        digits = max(2, len(str(participants - 1)))
        self.names = tuple(f"participant-{number:0{digits}d}" for number in range(participants))
        self._pooled: TensorDataset | None = None

    @abstractmethod
    def load(self) -> tuple[Split, Split]:
        """Return the training part and the test part, not yet normalised."""

    def setup(self, stage: str | None = None) -> None:
        """Load and divide the data; the second call does nothing. All parts are set up whatever the stage.

        Raises:
            InputError: When files are missing or wrong, or when the partition leaves a participant too little.
        """
        if self._pooled is not None:
            return
        train, test = self.load()
        labels = train.targets.numpy()
        kept, rest = stratified_split(labels, self.validation_share, self.partition_seed)
        parts = self.partition.split(
            labels[rest],
            self.participants,
            self.partition_seed,
            min_samples=self.min_samples,
            rows=rest,
            groups=None if train.groups is None else train.groups[rest],
        )
        if train.inputs.dtype != torch.int64 and self.mean is None:
            self.mean, self.std = channel_statistics(train.inputs)
        # The samples lie in the order of their holders, so that a participant's data are a slice and no copy.
        order = rest[np.concatenate(parts)]
        self._offsets = np.cumsum([0] + [len(part) for part in parts])
        self._validation = self._dataset(train.inputs[kept], train.targets[kept])
        self._test = self._dataset(test.inputs, test.targets)
        self._pooled = self._dataset(train.inputs[order], train.targets[order])

    def participant(self, number: int) -> TensorDataset:
        """Return the (input, target) pairs of participant ``number``, counted from 0; a view of `pooled`."""
        inputs, targets = self.pooled().tensors
        held = slice(self._offsets[number], self._offsets[number + 1])
        return TensorDataset(inputs[held], targets[held])

    def pooled(self) -> TensorDataset:
        """Return all participants' samples, those of participant 0 first."""
        self.setup()
        assert self._pooled is not None
        return self._pooled

    def validation(self) -> TensorDataset:
        """Return the server's part, for contributions, calibration and allocation."""
        self.setup()
        return self._validation

    def test(self) -> TensorDataset:
        """Return the test part, for what is reported only."""
        self.setup()
        return self._test

    def class_counts(self) -> IntArray:
        """Return how many samples of each class everybody holds, shape (participants, classes)."""
        held = (self.participant(number).tensors[1] for number in range(self.participants))
        return np.stack([np.bincount(targets.numpy(), minlength=self.num_classes) for targets in held])

    def describe(self) -> dict[str, Any]:
        """Return what a reader needs to know of the data, as plain values."""
        self.setup()
        return {
            "name": type(self).__name__.removesuffix("Data"),
            "num_classes": self.num_classes,
            "input_shape": list(self.input_shape),
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "participants": self.participants,
            "partition": self.partition.describe(),
            "partition_seed": self.partition_seed,
            "sizes": np.diff(self._offsets).tolist(),
            "validation_size": len(self.validation()),
            "test_size": len(self.test()),
        }

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled batches of all participants' samples, for centralised training."""
        return DataLoader(self.pooled(), batch_size=self.batch_size, shuffle=True)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the server's validation part."""
        return DataLoader(self.validation(), batch_size=self.batch_size)  # type: ignore[arg-type]

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the test part."""
        return DataLoader(self.test(), batch_size=self.batch_size)  # type: ignore[arg-type]

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the test part, targets included."""
        return self.test_dataloader()

    def _dataset(self, inputs: Tensor, targets: Tensor) -> TensorDataset:
        return TensorDataset(normalised(inputs, self.mean, self.std), targets)


def stratified_split(labels: IntArray, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Take a random share of every class, at least one sample of each.

    Args:
        labels: Class of each sample, shape (samples,).
        share: Part of every class to take, in (0, 1), rounded to whole samples.
        seed: Seed of the generator, at least 0.

    Returns:
        The sorted indices that were taken and those that were left.

    Example:
        >>> taken, left = stratified_split(np.array([0] * 8 + [1] * 4), 0.25, seed=0)
        >>> len(taken), (taken < 8).sum().item(), len(left)
        (3, 2, 9)
    """
    # The pair keeps this stream apart from the partition's, which starts from the seed alone.
    generator = np.random.default_rng([seed, 1])
    taken = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        taken[generator.permutation(members)[: max(1, round(share * len(members)))]] = True
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
    values = inputs.double() / (255 if inputs.dtype == torch.uint8 else 1)
    over = [dimension for dimension in range(inputs.ndim) if dimension != 1]
    std, mean = torch.std_mean(values, dim=over, correction=0)
    std[std == 0] = 1
    return tuple(mean.tolist()), tuple(std.tolist())


def normalised(inputs: Tensor, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Tensor:
    """Return float32 inputs with the mean taken off and the standard deviation divided out; uint8 counts as 0..1.

    Token numbers (int64) are returned as they are.

    Example:
        >>> normalised(torch.tensor([[[[0]], [[255]]]], dtype=torch.uint8), (0.5, 0.5), (0.5, 0.25)).flatten()
        tensor([-1.,  2.])
    """
    if inputs.dtype == torch.int64:
        return inputs
    scale = 255 if inputs.dtype == torch.uint8 else 1
    shape = (-1, *(1 for _ in range(inputs.ndim - 2)))
    return (inputs.float() - scale * torch.tensor(mean).view(shape)).div_(scale * torch.tensor(std).view(shape))
