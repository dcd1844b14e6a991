"""Any map-style dataset of torch, read once into memory."""

from collections.abc import Callable, Sequence, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.data.target_kinds import TargetKind
from aequa_lightning.errors import InputError

# Samples that are collated at a time.
CHUNK = 256
Collate = Callable[[list[Any]], Any]


class DatasetData(CollaborativeData):
    """Samples of map-style datasets, such as those of torchvision or of your own.

    Every sample is read once, when the object is made, and kept as a tensor: transforms must give the same sample each
    time, and samples must have one shape. Random changes of training images are ``augment``.

    Args:
        train: Dataset of pairs (input, target), which participants divide.
        test: Likewise, for the report.
        validation: Likewise, for the server; None: a share of the training part.
        collate_fn: Makes (inputs, targets), two tensors, of a list of samples; None: torch's own. It turns dictionaries
            into pairs, or pads sequences.
        target_kind: What there is to predict; see :data:`~aequa_lightning.data.target_kinds.TargetKind`.
        num_classes: Number of classes, labels or tokens; None: counted on the training part. For ``numbers``: how many.
        vocabulary_size: Number of different tokens, where inputs are token numbers.
        **options: Of `CollaborativeData`.

    Raises:
        InputError: A dataset is no map-style one, changes from one reading to the next, or gives something else.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> samples = TensorDataset(torch.randn(40, 3), torch.arange(40) % 2)
        >>> data = DatasetData(samples, samples, participants=2)
        >>> data.input_shape, data.num_classes
        ((3,), 2)
    """

    def __init__(
        self,
        train: Dataset[Any],
        test: Dataset[Any],
        *,
        validation: Dataset[Any] | None = None,
        collate_fn: Collate | None = None,
        target_kind: TargetKind = "classes",
        num_classes: int | None = None,
        vocabulary_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        collate = collate_fn or default_collate
        parts = {"train": train, "validation": validation, "test": test}
        self._read = {name: _read(part, name, collate) for name, part in parts.items() if part is not None}
        inputs, targets = self._read["train"]
        self.target_kind, self.vocabulary_size = target_kind, vocabulary_size
        self.input_shape = tuple(inputs.shape[1:])
        self.num_classes = _count(targets, target_kind) if num_classes is None else num_classes
        names = getattr(train, "classes", ())
        self.classes = tuple(map(str, names)) if len(names) == self.num_classes else ()

    def load(self) -> tuple[Split, Split] | tuple[Split, Split, Split]:
        """Return the parts that were read."""
        return cast(tuple[Split, Split], tuple(Split(*part) for part in self._read.values()))


def _read(dataset: Any, name: str, collate: Collate) -> tuple[Tensor, Tensor]:
    """Return all inputs and targets of a dataset."""
    if not (isinstance(dataset, Sized) and hasattr(dataset, "__getitem__")):
        raise InputError(
            f"data.{name} is {type(dataset).__name__}, which has no length or cannot be indexed; give a map-style "
            "dataset"
        )
    if len(dataset) == 0:
        raise InputError(f"data.{name} is empty; give samples")
    chunks = [
        _collated([dataset[place] for place in range(start, min(start + CHUNK, len(dataset)))], name, collate)
        for start in range(0, len(dataset), CHUNK)
    ]
    _check_constant(dataset, chunks[0], name, collate)
    if len({part.shape[1:] for part, _ in chunks}) > 1:
        raise InputError(f"data.{name} has samples of several shapes; make them alike in a transform or in collate_fn")
    inputs, targets = (torch.cat(column) for column in zip(*chunks, strict=True))
    return inputs, targets.float() if targets.dtype == torch.float64 else targets


def _collated(samples: list[Any], name: str, collate: Collate) -> tuple[Tensor, Tensor]:
    try:
        found = collate(samples)
    except (TypeError, RuntimeError) as error:
        first = samples[0][0] if isinstance(samples[0], Sequence) and len(samples[0]) else samples[0]
        raise InputError(
            f"data.{name} gives {type(first).__name__}, which cannot be put into a batch ({error}); give tensors of "
            "one shape, by a transform such as torchvision.transforms.ToTensor(), or a collate_fn"
        ) from error
    pair = isinstance(found, tuple | list) and len(found) == 2
    if not pair or not all(isinstance(one, Tensor) and len(one) == len(samples) for one in found):
        kind = f"({', '.join(type(one).__name__ for one in found)})" if isinstance(found, tuple | list) else type(found)
        raise InputError(
            f"data.{name} gives {kind} for {len(samples)} samples; give a collate_fn that returns two tensors, inputs "
            "and targets, such as lambda samples: (torch.stack([s['image'] for s in samples]), "
            "torch.tensor([s['label'] for s in samples]))"
        )
    return found[0], found[1]


def _check_constant(dataset: Any, first: tuple[Tensor, Tensor], name: str, collate: Collate) -> None:
    """Check that a dataset gives the same samples when it is read again."""
    count = min(4, len(first[0]))
    again = _collated([dataset[place] for place in range(count)], name, collate)
    if not all(torch.equal(one[:count], other) for one, other in zip(first, again, strict=True)):
        raise InputError(
            f"data.{name} gives other samples when it is read again: a transform is random. Samples are read once, so "
            "take it out; data.augment=true shifts and mirrors training images anew in every step"
        )


def _count(targets: Tensor, kind: TargetKind) -> int:
    """Return the number of classes, labels or numbers that targets have."""
    if kind == "labels" or (kind == "numbers" and targets.ndim > 1):
        return targets.shape[1]
    return 1 if kind == "numbers" else int(targets.max()) + 1
