"""Map-style datasets of torch as data of participants."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from aequa_lightning.data import DatasetData
from aequa_lightning.errors import InputError

INPUTS, CLASSES = torch.randn(300, 2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 3


class Records(Dataset[dict[str, Any]]):
    """Samples that are dictionaries."""

    def __len__(self) -> int:
        return 300

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"image": INPUTS[place], "label": int(CLASSES[place])}


class Pairs(Dataset[tuple[Any, Any]]):
    """Samples of a function of their number."""

    def __init__(self, sample: Any, count: int = 40) -> None:
        self.sample, self.count = sample, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return self.sample(place)  # type: ignore[no-any-return]


class Stream(IterableDataset[Any]):
    """Has no length."""

    def __iter__(self) -> Iterator[Any]:
        return iter([])


def together(samples: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    return torch.stack([s["image"] for s in samples]), torch.tensor([s["label"] for s in samples])


def test_pairs_and_dictionaries_are_the_same_data() -> None:
    pairs, options = TensorDataset(INPUTS, CLASSES), {"participants": 4, "train_samples": 200}
    one = DatasetData(pairs, pairs, **options)
    other = DatasetData(Records(), Records(), collate_fn=together, **options)
    assert (one.input_shape, one.num_classes) == (other.input_shape, other.num_classes) == ((2, 4, 4), 3)
    for first, second in zip(one.pooled().tensors, other.pooled().tensors, strict=True):
        assert torch.equal(first, second)
    # Every sample that is divided is one of the dataset, by its value before it is normalised.
    std, mean = (torch.tensor(values).view(1, -1, 1, 1) for values in (one.std, one.mean))
    inputs, classes = one.pooled().tensors
    found = (inputs * std + mean).flatten(1)
    nearest = torch.cdist(found.double(), INPUTS.flatten(1).double()).min(dim=1)
    assert float(nearest.values.max()) < 1e-3
    assert torch.equal(CLASSES[nearest.indices], classes)


def test_numbers_and_labels_of_each_sample() -> None:
    regression = Pairs(lambda place: (INPUTS[place].flatten(), float(place)))
    data = DatasetData(regression, regression, target_kind="numbers", participants=2)
    assert (data.num_classes, data.pooled().tensors[1].dtype) == (1, torch.float32)
    tags = Pairs(lambda place: (INPUTS[place].flatten(), torch.tensor([place % 2, 1]).float()))
    assert DatasetData(tags, tags, target_kind="labels", participants=2).num_classes == 2


def test_a_validation_part_of_its_own_is_the_servers() -> None:
    train, other = TensorDataset(INPUTS[:200], CLASSES[:200]), TensorDataset(INPUTS[200:], CLASSES[200:])
    data = DatasetData(train, other, validation=other, participants=2)
    assert (len(data.pooled()), len(data.validation())) == (200, 100)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Stream(), "no length"),
        (Pairs(lambda place: (torch.randn(3), place % 2)), "gives other samples when it is read again"),
        (Pairs(lambda place: (torch.zeros(3 + place // 30), place % 2)), "cannot be put into a batch"),
        (Pairs(lambda place: (object(), 1)), "data.train gives object, which cannot be put into a batch"),
        (Records(), "give a collate_fn"),
        (Pairs(lambda place: (torch.zeros(3), 1), count=0), "data.train is empty"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(dataset: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DatasetData(dataset, dataset, participants=2)
