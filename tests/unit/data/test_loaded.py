import pytest
import torch
from torch.utils.data import TensorDataset

from aequa_lightning.cli.lightning_cli import stated
from aequa_lightning.data import CollaborativeData, Split
from aequa_lightning.errors import InputError

INPUTS = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(60) % 3


class Given(CollaborativeData):
    """Returns from `load` what it is given."""

    num_classes = 3
    input_shape = (4,)

    def __init__(self, loaded):
        super().__init__(participants=2)
        self.loaded = loaded

    def load(self):
        return self.loaded


@pytest.mark.parametrize(
    ("loaded", "message"),
    [
        (None, r"Given.load returns nothing; return two parts, Split\(inputs, targets\)"),
        (Split(INPUTS, TARGETS), r"returns Split; return two parts"),
        ((Split(INPUTS, TARGETS),), r"returns \(Split\); return two parts"),
        (((INPUTS, TARGETS),) * 2, r"returns \(tuple, tuple\); return two parts"),
        ((TensorDataset(INPUTS, TARGETS),) * 2, r"returns \(TensorDataset, .*Split\(\*dataset.tensors\)"),
    ],
)
def test_loaded_parts_that_are_no_splits(loaded, message):
    with pytest.raises(InputError, match=message):
        Given(loaded).setup()


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (INPUTS.tolist(), TARGETS, r"inputs of the test part are no tensor but list; give torch.tensor\(inputs\)"),
        (INPUTS.numpy(), TARGETS, r"no tensor but ndarray; give torch.from_numpy\(inputs\)"),
        (INPUTS, ["a", "b", "c"] * 20, r"targets .*list; give torch.tensor\(\[names.index\(name\) for name in targets"),
        (INPUTS.half(), TARGETS, r"are torch.float16; give inputs.float\(\)"),
        ((INPUTS * 9).long(), TARGETS, r"torch.int64, which stands for token numbers; give inputs.float\(\)"),
        (INPUTS[:0], TARGETS[:0], r"inputs of the test part are empty"),
        (INPUTS[:, :3], TARGETS, r"shape \(60, 3\), but input_shape is \(4,\)"),
        (INPUTS.index_fill(0, torch.tensor([7]), torch.nan), TARGETS, r"NaN or infinity, first in sample 7"),
        (INPUTS, TARGETS[:50], r"targets of the test part have shape \(50,\) for 60 samples"),
        (INPUTS, torch.eye(3)[TARGETS], r"one-hot rows that is targets.argmax\(1\)"),
        (INPUTS, TARGETS / 2, r"are torch.float32; classes are whole numbers"),
        (INPUTS, TARGETS.int(), r"are torch.int32; give targets.long\(\)"),
        (INPUTS, TARGETS > 0, r"are torch.bool; give targets.long\(\)"),
        (INPUTS, TARGETS + 1, r"classes from 1 to 3, but num_classes is 3: 0 to 2"),
    ],
)
def test_loaded_values_that_do_not_fit(inputs, targets, message):
    with pytest.raises(InputError, match=f"Given.load: .*{message}"):
        Given((Split(INPUTS, TARGETS), Split(inputs, targets))).setup()


def test_loaded_tokens_outside_of_the_vocabulary():
    data = Given((Split((INPUTS * 9).long(), TARGETS),) * 2)
    data.vocabulary_size = 9
    with pytest.raises(InputError, match="hold tokens outside of 0 to 8"):
        data.setup()


def test_loaded_groups_are_an_array():
    with pytest.raises(InputError, match=r"groups of the training part are list; give a numpy array of shape \(60,\)"):
        Given((Split(INPUTS, TARGETS, ["a"] * 60), Split(INPUTS, TARGETS))).setup()


def test_loaded_validation_part_of_its_own_is_the_servers():
    validation, test = INPUTS[:9] + 100, INPUTS[:6] - 100
    data = Given((Split(INPUTS, TARGETS), Split(validation, TARGETS[:9]), Split(test, TARGETS[:6])))
    data.setup()
    mean, std = INPUTS.mean(0), INPUTS.std(0, correction=0)
    assert torch.allclose(data.validation().tensors[0], (validation - mean) / std, rtol=1e-4)
    assert torch.allclose(data.test().tensors[0], (test - mean) / std, rtol=1e-4)
    held = torch.cat([data.participant(number).tensors[0] for number in range(2)])
    assert torch.allclose(held.sort(0).values, ((INPUTS - mean) / std).sort(0).values, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_classes", None, "Given states no num_classes; set it in the class"),
        ("num_classes", 1, "Given.num_classes is 1; give the number of classes, at least 2"),
        ("num_classes", "ten", "Given.num_classes is 'ten'"),
        ("input_shape", None, "Given states no input_shape"),
        ("input_shape", 4, "Given.input_shape is 4; give the shape of a sample"),
        ("input_shape", (4, 0), r"Given.input_shape is \(4, 0\)"),
    ],
)
def test_loaded_class_that_does_not_state_its_samples(key, value, message):
    data = Given((Split(INPUTS, TARGETS),) * 2)
    setattr(data, key, value)
    with pytest.raises(InputError, match=message):
        data.setup()
    # The command line hands it to the model before.
    with pytest.raises(InputError, match=message):
        stated(data, key=key)
