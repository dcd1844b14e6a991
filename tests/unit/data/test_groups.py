import numpy as np
import pytest
import torch

from aequa_lightning.data import CollaborativeData, FromFile, Natural, Split
from aequa_lightning.data.groups import natural
from aequa_lightning.errors import InputError

GROUPS = np.random.default_rng(0).permutation(np.repeat([2, 5, 6, 9, 11], [30, 20, 25, 15, 10]))
LABELS = GROUPS % 2


class Grouped(CollaborativeData):
    """Row r holds the number r; its group is GROUPS[r]."""

    num_classes = 2
    input_shape = (1,)
    mean, std = (0.0,), (1.0,)

    def load(self):
        split = Split(torch.arange(100.0)[:, None], torch.from_numpy(LABELS), GROUPS)
        return split, split


def test_partition_groups_stay_together():
    for participants in range(1, 6):
        parts = natural(GROUPS, participants, 3)
        assert sorted(np.concatenate(parts)) == list(range(100))
        held = [set(GROUPS[part]) for part in parts]
        assert sum(map(len, held)) == 5
        assert max(map(len, held)) - min(map(len, held)) <= 1


def test_partition_one_group_each_in_order():
    assert [set(GROUPS[part]) for part in natural(GROUPS, 5, 0)] == [{2}, {5}, {6}, {9}, {11}]


def test_partition_merged_groups_depend_on_the_seed():
    draws = {tuple(sorted(set(GROUPS[natural(GROUPS, 2, seed)[0]]))) for seed in range(200)}
    assert len(draws) == 10  # three of five, all of them


def test_partition_natural_in_a_data_set():
    data = Grouped(participants=5, partition=Natural(), min_samples=5)
    rows = [data.participant(number).tensors[0][:, 0].long().numpy() for number in range(5)]
    assert [set(GROUPS[part]) for part in rows] == [{2}, {5}, {6}, {9}, {11}]
    with pytest.raises(InputError, match="5 groups for 6 participants"):
        Grouped(participants=6, partition=Natural()).setup()
    with pytest.raises(InputError, match="has none"):
        Natural().split(LABELS, 2, 0)


def write(tmp_path, lines):
    path = tmp_path / "assignment.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_partition_from_file_in_a_data_set(tmp_path):
    holder = np.random.default_rng(1).integers(0, 3, 100)
    order = np.random.default_rng(2).permutation(100)
    path = write(tmp_path, ["index,participant", *(f"{row},{holder[row]}" for row in order)])
    data = Grouped(participants=3, partition=FromFile(path), min_samples=5)
    kept = set(data.validation().tensors[0][:, 0].long().tolist())
    for number in range(3):
        expected = set(np.flatnonzero(holder == number).tolist()) - kept
        assert set(data.participant(number).tensors[0][:, 0].long().tolist()) == expected
    assert data.describe()["partition"] == {"name": "FromFile", "path": path}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0,0", "1,1"], r"begins with '0,0', expected 'index,participant'"),
        (["index,participant", "0,0", "1,one"], r"line 3: '1,one' is not a pair"),
        (["index,participant", "0,0,1"], r"line 2: '0,0,1' is not a pair"),
        (["index,participant", "0,2"], r"line 2: participant 2 is not among the 2"),
        (["index,participant", "0,0", "0,1"], r"line 3: sample 0 is named a second time"),
        (["index,participant", "0,0", "2,1"], r"leaves out 2 training samples, first 1"),
        (["index,participant", "0,0", "1,0", "2,0", "3,0"], r"participant 1 of 2 would hold 0 .* in the file"),
    ],
)
def test_partition_files_that_do_not_fit(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        FromFile(write(tmp_path, lines)).split([0, 1, 0, 1], 2, 0)


def test_partition_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.csv is no file"):
        FromFile(str(tmp_path / "nowhere.csv"))
