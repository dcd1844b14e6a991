import pytest
import torch

from aequa_lightning.data import SST2Data, SST5Data
from aequa_lightning.errors import InputError

TRAIN = ["1 a good film", "0 a bad film", "1 Good , good fun", "0 a bore"] * 10 + ["1 rare"]
TEST = ["1 a good unseen rare", "0 bad"]


@pytest.fixture
def folder(tmp_path):
    for kind in ("binary", "fine"):
        for part, lines in (("train", TRAIN), ("test", TEST)):
            (tmp_path / f"stsa.{kind}.{part}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_sst_words_are_numbered_by_frequency_in_the_training_part(folder):
    data = SST2Data(str(folder), length=4, participants=2, min_samples=2)
    assert (data.num_classes, data.input_shape) == (2, (4,))
    # 30 of "a" and "good" each, 20 of "film", 10 of the others; "rare" is seen once and "unseen" never.
    assert data.vocabulary == {"a": 2, "good": 3, "film": 4, ",": 5, "bad": 6, "bore": 7, "fun": 8}
    assert data.vocabulary_size == 9
    inputs, targets = data.test().tensors
    assert inputs.dtype == torch.int64
    assert inputs.tolist() == [[2, 3, 1, 1], [6, 0, 0, 0]]
    assert targets.tolist() == [1, 0]
    assert (data.mean, data.std) == (None, None)


def test_sst_long_sentences_are_cut_and_rare_words_may_count(folder):
    data = SST2Data(str(folder), length=2, min_count=1, participants=2, min_samples=2)
    assert data.test().tensors[0].tolist() == [[2, 3], [6, 0]]
    assert data.vocabulary["rare"] == 9


def test_sst_only_line_feeds_end_a_line(folder):
    (folder / "stsa.binary.test").write_text("1 good\u2028film\n0 bad\x85film\n", encoding="utf-8")
    data = SST2Data(str(folder), length=2, participants=2, min_samples=2)
    assert data.test().tensors[0].tolist() == [[3, 4], [6, 4]]


def test_sst_what_does_not_go_with_words(folder):
    with pytest.raises(InputError, match=r"data.feature_noise is added to numbers"):
        SST2Data(str(folder), participants=2, min_samples=2, feature_noise=0.1).setup()
    with pytest.raises(InputError, match=r"data.augment shifts images"):
        SST2Data(str(folder), participants=2, min_samples=2, augment=True).setup()
    with pytest.raises(InputError, match=r"data.length \(0\)"):
        SST2Data(str(folder), length=0)


@pytest.mark.parametrize("line", ["2 too good", "good", "1 ", "", "-1 bad"])
def test_sst_lines_of_another_form(folder, line):
    (folder / "stsa.binary.train").write_text("\n".join(["1 good", line, "0 bad"]))
    with pytest.raises(InputError, match=r"stsa.binary.train, line 2 is .*expected a class 0 to 1"):
        SST2Data(str(folder), participants=2).setup()


def test_sst_missing_file(folder):
    (folder / "stsa.fine.test").unlink()
    with pytest.raises(InputError, match=r"stsa.fine.test is missing; expected in data.root are stsa.fine.train"):
        SST5Data(str(folder))


@pytest.mark.parametrize(("data_set", "sizes"), [(SST5Data, (8544, 2210)), (SST2Data, (6920, 1821))])
def test_sst_real_treebank(real_data, data_set, sizes):
    data = data_set(str(real_data / "sst"), participants=10)
    assert (len(data.pooled()) + len(data.validation()), len(data.test())) == sizes
    assert (data.class_counts().sum(axis=0) > 0).all()
    inputs = torch.cat([data.pooled().tensors[0], data.validation().tensors[0]])
    assert inputs.max() == data.vocabulary_size - 1
    assert (inputs == 1).sum() < 0.06 * (inputs > 0).sum()  # few words are unknown
    assert ((inputs[:, -1] > 0).float().mean()) < 0.01  # hardly a sentence is cut
