"""CollaborativeData, the base of all data sets: loads, keeps a validation part, divides the rest among participants."""

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset

from aequa_lightning.data.augmentation import CropAndFlip
from aequa_lightning.data.batching import NoSingleSampleBatches
from aequa_lightning.data.loaded import Split, check_loaded, check_statements, data_name, warn_of_losses
from aequa_lightning.data.noise import add_gaussian_noise, corrupt_labels, noise_levels
from aequa_lightning.data.options import check_kind, check_numbers
from aequa_lightning.data.partition import Homogeneous, Partition
from aequa_lightning.data.preparation import IntArray, channel_statistics, normalised, stratified_split
from aequa_lightning.data.target_kinds import TargetKind, strata
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.arguments import RecordsArguments
from aequa_lightning.runtime.process_settings import plain_computation

Batch = tuple[Tensor, Tensor]


class CollaborativeData(RecordsArguments, LightningDataModule):
    """A data set divided among participants, with a validation part for the server and a test part for the report.

    The validation part is taken out of the *training* part, stratified by class, unless the data set has one of its
    own: nothing is decided on test data. Everything is kept in memory as tensors. A subclass implements `load` and sets
    ``num_classes``, ``input_shape`` and, where known, ``mean`` and ``std``. Data sets with a download do it in
    ``prepare_data``, which one process calls before ``setup``, as Lightning does.

    Args:
        participants: How many participants share the training part, at least 1.
        partition: The rule that divides it; None deals every class out evenly.
        validation_share: Part of every class that the server keeps for validation, in (0, 1); without effect where the
            data set has a validation part of its own.
        batch_size: Samples in a batch of the loaders.
        min_samples: The fewest samples a participant may hold, at least 1.
        partition_seed: Seed of the validation part, the partition and the noise; training has its own seed.
        train_samples: Use only about this many training samples, drawn stratified by class; None uses all.
        test_samples: Likewise of the test part.
        augment: Shift the images of training batches at random by an eighth of their side, and mirror them where the
            data set allows it; see `augmentation`.
        feature_noise: Standard deviation of Gaussian noise on the participants' normalised inputs: one level each, or
            the last participant's, with levels rising evenly from 0.
        label_noise: Share of the participants' labels that are replaced by another class, likewise, in [0, 1].

    Attributes:
        num_classes: Number of classes, labels, tokens or numbers to predict, known after construction.
        target_kind: Kind of the targets: ``classes``, ``labels``, ``numbers`` or ``positions``; see
            :data:`~aequa_lightning.data.target_kinds.TargetKind`.
        classes: Their names, in order of their numbers; empty where they have none.
        input_shape: Shape of one sample without the batch dimension, known after construction.
        vocabulary_size: Number of different tokens, where a sample is a row of token numbers; None where it is not.
        names: A name per participant, fit for file names.
        mean: Mean that inputs are normalised by, per channel or feature; None before ``setup`` where it is measured,
            and always for token numbers.
        std: Standard deviation that inputs are normalised by, likewise.
        augmentation: Applied to the inputs of every training batch; None without ``augment``. A plain
            `lightning.Trainer` applies it in ``on_after_batch_transfer``.
        flippable: Whether a mirrored image still shows the same class.
        feature_names: Names of the features of vectors, for messages; None without names.
    """

    num_classes: int
    target_kind: TargetKind = "classes"
    classes: Sequence[str] = ()
    input_shape: tuple[int, ...]
    vocabulary_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    flippable: bool = False
    feature_names: tuple[str, ...] | None = None

    def __init__(
        self,
        *,
        participants: int = 10,
        partition: Partition | None = None,
        validation_share: float = 0.2,
        batch_size: int = 32,
        min_samples: int = 10,
        partition_seed: int = 0,
        train_samples: int | None = None,
        test_samples: int | None = None,
        augment: bool = False,
        feature_noise: float | list[float] = 0.0,
        label_noise: float | list[float] = 0.0,
    ) -> None:
        super().__init__()
        check_numbers(
            participants=participants,
            batch_size=batch_size,
            min_samples=min_samples,
            train_samples=train_samples,
            test_samples=test_samples,
            validation_share=validation_share,
            partition_seed=partition_seed,
        )
        self.participants = participants
        self.partition = partition or Homogeneous()
        self.validation_share = validation_share
        self.batch_size = batch_size
        self.min_samples = min_samples
        self.partition_seed = partition_seed
        self.train_samples = train_samples
        self.test_samples = test_samples
        self.augment = augment
        self.feature_noise = noise_levels(feature_noise, participants, "data.feature_noise")
        self.label_noise = noise_levels(label_noise, participants, "data.label_noise")
        if max(self.label_noise) > 1:
            raise InputError(f"data.label_noise is {label_noise}; it is a share of the labels, at most 1")
        digits = max(2, len(str(participants - 1)))
        self.names = tuple(f"participant-{number:0{digits}d}" for number in range(participants))
        self._pooled: TensorDataset | None = None

    @abstractmethod
    def load(self) -> tuple[Split, Split] | tuple[Split, Split, Split]:
        """Return the training and the test part, or training, validation and test part, not yet normalised."""

    def setup(self, stage: str | None = None) -> None:
        """Load and divide the data; the second call does nothing. All parts are set up whatever the stage.

        Raises:
            InputError: When files are missing or wrong, or when the partition leaves a participant too little.
        """
        if self._pooled is None:
            # The caller's threads and default type must not affect the means.
            with plain_computation():
                self._set_up()

    def _set_up(self) -> None:
        check_statements(self)
        train, validation, test = check_loaded(
            self.load(),
            owner=type(self).__name__,
            num_classes=self.num_classes,
            input_shape=self.input_shape,
            vocabulary_size=self.vocabulary_size,
            kind=self.target_kind,
        )
        noisy = max(self.feature_noise) > 0
        check_kind(train.inputs, owner=type(self).__name__, augment=self.augment, noisy=noisy)
        if max(self.label_noise) > 0 and self.target_kind != "classes":
            raise InputError(f"data.label_noise replaces classes, but targets are {self.target_kind}; set it to 0")
        if self.augment and self.target_kind not in ("classes", "labels"):
            raise InputError(f"data.augment moves inputs alone, but targets are {self.target_kind}; set it to false")
        labels = strata(train.targets, self.target_kind)
        rows = self._used_rows("train_samples", labels, stream=2)
        kept, left = self._validation_rows(labels, rows) if validation is None else (rows[:0], rows)
        known = self.mean is not None
        warn_of_losses(train, labels=labels, names=self.feature_names, known_statistics=known, rows=rows, left=left)
        parts = self.partition.split(
            labels[left],
            self.participants,
            self.partition_seed,
            min_samples=self.min_samples,
            rows=left,
            groups=None if train.groups is None else train.groups[left],
            size=len(labels),
            names=self.names,
        )
        if train.inputs.dtype != torch.int64 and not known:
            self.mean, self.std = self.measure_statistics(train.inputs[rows])
        # Samples are in the order of their participants, so that a participant's data are a slice and no copy.
        order = left[np.concatenate(parts)]
        self._offsets = np.cumsum([0] + [len(part) for part in parts])
        self._validation = self._dataset(*(validation or Split(train.inputs[kept], train.targets[kept]))[:2])
        tested = self._used_rows("test_samples", strata(test.targets, self.target_kind), stream=4)
        self._test = self._dataset(test.inputs[tested], test.targets[tested])
        self._pooled = self._dataset(train.inputs[order], train.targets[order])
        self._add_noise()

    def measure_statistics(self, inputs: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation that inputs are normalised by; see `channel_statistics`.

        Args:
            inputs: Those of the training part that are used.
        """
        return channel_statistics(inputs)

    def _validation_rows(self, labels: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Return which of the used rows the server keeps, and which it leaves to the participants."""
        # The second number keeps the streams apart: the partition starts from the seed alone.
        seed = [self.partition_seed, 1]
        kept, left = stratified_split(labels[rows], self.validation_share, seed, leave_one=True)
        return rows[kept], rows[left]

    @property
    def augmentation(self) -> CropAndFlip | None:
        """A callable for the inputs of training batches, or None."""
        if not self.augment:
            return None
        return CropAndFlip(padding=max(1, min(self.input_shape[1:]) // 8), flip=self.flippable)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment the training batches of a plain `lightning.Trainer`."""
        if self.augmentation is None or self.trainer is None or not self.trainer.training:
            return batch
        inputs, targets = batch
        return self.augmentation(inputs), targets

    def with_samples(self, samples: Mapping[int, Batch]) -> Self:
        """Return the same data, except that some participants hold other samples.

        Args:
            samples: Inputs and targets of these participants, normalised like all others.
        """
        parts = [samples.get(number, self.participant(number).tensors) for number in range(self.participants)]
        other = copy.copy(self)
        other._offsets = np.cumsum([0] + [len(targets) for _, targets in parts])
        other._pooled = TensorDataset(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
        return other

    def participant(self, number: int) -> TensorDataset:
        """Return the (input, target) pairs of participant ``number``, counted from 0; a view of `pooled`."""
        if not 0 <= number < self.participants:
            raise IndexError(f"participant {number} of {self.participants}, counted from 0")
        inputs, targets = self.pooled().tensors
        held = slice(self._offsets[number], self._offsets[number + 1])
        return TensorDataset(inputs[held], targets[held])

    def pooled(self) -> TensorDataset:
        """Return all participants' samples, those of participant 0 first."""
        self.setup()
        assert self._pooled is not None
        return self._pooled

    def sample_counts(self) -> list[int]:
        """Return the number of training samples of each participant, (N,)."""
        return [len(self.participant(number)) for number in range(self.participants)]

    def training_tensors(self) -> tuple[Tensor, ...]:
        """Return tensors that tell the participants' data from other data: their inputs and targets."""
        return self.pooled().tensors

    def owner_facts(self, number: int) -> dict[str, str]:
        """Return further facts of participant ``number`` that its reward states, as plain values; none by default."""
        return {}

    def validation(self) -> TensorDataset:
        """Return the server's part, for contributions, calibration and allocation."""
        self.setup()
        return self._validation

    def test(self) -> TensorDataset:
        """Return the test part, for reports only."""
        self.setup()
        return self._test

    def class_counts(self) -> IntArray:
        """Return how many samples of each class each participant holds, shape (participants, classes).

        Where targets are no classes, their :func:`~aequa_lightning.data.target_kinds.strata` take their place.
        """
        labels = strata(self.pooled().tensors[1], self.target_kind)
        count = self.num_classes if self.target_kind == "classes" else int(labels.max()) + 1
        held = np.split(labels, self._offsets[1:-1])
        return np.stack([np.bincount(part, minlength=count) for part in held])

    def describe(self) -> dict[str, Any]:
        """Return a description of the data as plain values, for the run's record."""
        self.setup()
        return {
            "name": data_name(self),
            "num_classes": self.num_classes,
            "classes": list(self.classes),
            "input_shape": list(self.input_shape),
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "participants": self.participants,
            "partition": self.partition.describe(),
            "partition_seed": self.partition_seed,
            "sizes": np.diff(self._offsets).tolist(),
            "validation_size": len(self.validation()),
            "test_size": len(self.test()),
            "augment": self.augment,
            "feature_noise": self.feature_noise,
            "label_noise": self.label_noise,
        }

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled batches of all participants' samples, for centralised training."""
        # Under DDP, Trainer recognises shuffling by the loader's own sampler, so there is no batch sampler here.
        return DataLoader(self.pooled(), batch_size=self.batch_size, shuffle=True)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the server's validation part."""
        return self._loader(self.validation())

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the test part."""
        return self._loader(self.test())

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the test part, targets included."""
        return self.test_dataloader()

    def _loader(self, part: TensorDataset) -> DataLoader[Batch]:
        batches = NoSingleSampleBatches(SequentialSampler(part), self.batch_size, drop_last=False)
        return DataLoader(part, batch_sampler=batches)  # type: ignore[arg-type]

    def _used_rows(self, key: str, labels: IntArray, *, stream: int) -> IntArray:
        """Return the rows of a part that are used; the option ``key`` has their number."""
        wanted: int | None = getattr(self, key)
        if wanted is None:
            return np.arange(len(labels))
        if wanted > len(labels):
            raise InputError(f"data.{key} is {wanted}, but there are {len(labels)}; use fewer or null")
        return stratified_split(labels, wanted / len(labels), [self.partition_seed, stream])[0]

    def _add_noise(self) -> None:
        """Add noise to the participants' samples in place; each one's depends on the seed and its number only."""
        for number in range(self.participants):
            inputs, targets = self.participant(number).tensors
            generator = np.random.default_rng([self.partition_seed, 3, number])
            add_gaussian_noise(inputs, self.feature_noise[number], generator)
            if self.target_kind == "classes":
                corrupt_labels(targets, self.label_noise[number], self.num_classes, generator)

    def _dataset(self, inputs: Tensor, targets: Tensor) -> TensorDataset:
        return TensorDataset(normalised(inputs, self.mean, self.std), targets)
