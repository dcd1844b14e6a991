from typing import Any

import numpy as np
import pytest
import torch

from aequa_lightning.data import BreastCancerData, CharactersData, DiabetesData, DigitPairsData, ShapesData, Split
from aequa_lightning.data.loaded import check_loaded
from aequa_lightning.errors import InputError


def test_the_next_piece_begins_where_a_piece_of_text_ends() -> None:
    train, test = CharactersData().load()
    inputs, targets = torch.cat([train.inputs, test.inputs]), torch.cat([train.targets, test.targets])
    assert torch.equal(inputs.flatten()[1:], targets.flatten()[:-1])


def test_digit_pairs_show_one_or_two_digits() -> None:
    for part in DigitPairsData().load():
        assert part.inputs.shape[1:] == (1, 8, 16)
        assert set(part.targets.sum(1).tolist()) == {1.0, 2.0}


def test_every_shape_is_drawn_and_brighter_than_the_background() -> None:
    train, _ = ShapesData().load()
    means = [train.inputs[:, 0][train.targets == kind].mean() for kind in range(4)]
    assert min(means[1:]) > 0.7 > means[0]


@pytest.mark.parametrize(("kind", "sizes"), [(BreastCancerData, (456, 113)), (DiabetesData, (354, 88))])
def test_tables_are_split_and_standardised(kind: Any, sizes: tuple[int, int]) -> None:
    data = kind(participants=4)
    data.setup()
    assert (len(data.pooled()) + len(data.validation()), len(data.test())) == sizes
    inputs = torch.cat([data.pooled().tensors[0], data.validation().tensors[0]])
    torch.testing.assert_close(inputs.mean(0), torch.zeros(inputs.shape[1]), atol=1e-4, rtol=0)
    # Quarters of the numbers are dealt out as classes are.
    assert np.ptp(data.class_counts(), axis=0).max() <= 1


FACTS: dict[str, Any] = {"owner": "Mine", "num_classes": 2, "input_shape": (2,), "vocabulary_size": None}


@pytest.mark.parametrize(
    ("kind", "targets", "fault"),
    [
        ("labels", torch.tensor([[0.0, 1.0], [1.0, 2.0]]), "hold numbers from 0 to 2; a label is 0 or 1"),
        ("labels", torch.zeros(2), r"have shape \(2,\), but num_classes is 2: \(2, 2\)"),
        ("numbers", torch.zeros(2, dtype=torch.float64), r"give targets\.float\(\)"),
        ("numbers", torch.tensor([0.0, torch.nan]), "hold NaN"),
        ("positions", torch.zeros(2, dtype=torch.int64), "give a class, int64, for each position"),
        ("positions", torch.full((2, 3), 2), "hold class 2, but num_classes is 2"),
        ("classes", torch.zeros(2), "or set target_kind = 'numbers'"),
    ],
)
def test_targets_of_another_kind_are_refused(kind: Any, targets: torch.Tensor, fault: str) -> None:
    with pytest.raises(InputError, match=f"Mine.load: targets of the training part {'.*' + fault}"):
        check_loaded((Split(torch.zeros(2, 2), targets),) * 2, **FACTS, kind=kind)


def test_what_changes_classes_or_moves_inputs_is_refused_for_other_targets() -> None:
    with pytest.raises(InputError, match=r"data\.label_noise replaces classes, but targets are numbers"):
        DiabetesData(label_noise=0.1).setup()
    with pytest.raises(InputError, match=r"data\.augment moves inputs alone, but targets are positions"):
        ShapesData(augment=True).setup()
