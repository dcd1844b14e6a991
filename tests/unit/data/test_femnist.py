import json

import numpy as np
import pytest
import torch

from aequa_lightning.data import Dirichlet, FEMNISTData
from aequa_lightning.errors import InputError

# Writers of a few characters have classes of one sample.
pytestmark = pytest.mark.filterwarnings("ignore:data. class 0 has one training sample")

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (3, 30, 784), dtype=np.uint8)
WRITERS = ["f0001_41", "f0000_14", "f2_07"]


def leaf(writers, first, last):
    data = {
        name: {
            "x": (GREY[number, first:last] / 255).tolist(),
            "y": [(5 * number + i) % 62 for i in range(last - first)],
        }
        for number, name in writers
    }
    return {"users": list(data), "num_samples": [last - first] * len(data), "user_data": data}


@pytest.fixture
def folder(tmp_path):
    """Two files in train, one in test, three writers with 24 and 6 characters."""
    numbered = list(enumerate(WRITERS))
    for path, writers, first, last in [
        ("train/all_data_0_niid_0_keep_0_train_8.json", numbered[:2], 0, 24),
        ("train/all_data_1_niid_0_keep_0_train_8.json", numbered[2:], 0, 24),
        ("test/all_data_0_niid_0_keep_0_test_8.json", numbered, 24, 30),
    ]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(json.dumps(leaf(writers, first, last)))
    return tmp_path


def test_femnist_writers_stay_together(folder):
    data = FEMNISTData(str(folder), participants=3, validation_share=0.1, min_samples=2)
    assert (data.num_classes, data.input_shape) == (62, (1, 28, 28))
    train, test = data.load()
    assert torch.equal(train.inputs, torch.from_numpy(GREY[:, :24].reshape(-1, 1, 28, 28)))
    assert torch.equal(test.inputs, torch.from_numpy(GREY[:, 24:].reshape(-1, 1, 28, 28)))
    assert train.targets[24:48].tolist() == [(5 + i) % 62 for i in range(24)]
    # The groups are numbered by the writers' names in order.
    assert train.groups.tolist() == [1] * 24 + [0] * 24 + [2] * 24
    for number, writer in enumerate([1, 0, 2]):
        held = data.participant(number).tensors[0]
        restored = (held * data.std[0] + data.mean[0]).mul(255).round().to(torch.uint8).flatten(1)
        own = {row.tobytes() for row in GREY[writer, :24]}
        assert {row.tobytes() for row in restored.numpy()} <= own


def test_femnist_another_partition_is_possible(folder):
    data = FEMNISTData(str(folder), participants=2, partition=Dirichlet(10.0), min_samples=2)
    assert data.describe()["partition"]["name"] == "Dirichlet"
    assert data.describe()["name"] == "FEMNIST"


def test_femnist_more_participants_than_writers(folder):
    with pytest.raises(InputError, match="3 groups for 4 participants"):
        FEMNISTData(str(folder), participants=4).setup()


def test_femnist_missing_part(folder):
    for path in (folder / "test").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"holds no JSON files in test; expected are train/\*.json"):
        FEMNISTData(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held.pop("y"), "has another layout .'y'"),
        (lambda held: held["x"].append([0.5] * 783), "has another layout"),
        (lambda held: held["y"].pop(), "24 images and 23 labels"),
        (lambda held: held["y"].__setitem__(0, 62), "value out of range"),
        (lambda held: held["x"][0].__setitem__(0, 255), "value out of range"),
    ],
)
def test_femnist_another_layout(folder, change, message):
    path = next((folder / "train").glob("all_data_1*"))
    content = json.loads(path.read_text())
    change(content["user_data"][WRITERS[2]])
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        FEMNISTData(str(folder), participants=3).setup()


def test_femnist_no_json(folder):
    path = next((folder / "train").iterdir())
    path.write_text("{")
    with pytest.raises(InputError, match="has another layout"):
        FEMNISTData(str(folder), participants=3).setup()
