import hashlib
import pickle

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets

from aequa_lightning.data import CIFAR10Data, CIFAR100Data, SVHNData
from aequa_lightning.errors import InputError

RNG = np.random.default_rng(0)


def write_pickle(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return [path.name, hashlib.md5(path.read_bytes()).hexdigest()]


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """Two training batches and a test batch of 40 images as Krizhevsky's archive holds them."""
    folder = tmp_path / "cifar-10-batches-py"
    batches = [(RNG.integers(0, 256, (40, 3072), dtype=np.uint8), np.arange(40) % 10) for _ in range(3)]
    entries = [
        write_pickle(folder / name, {"data": pixels, "labels": labels.tolist()})
        for name, (pixels, labels) in zip(["data_batch_1", "data_batch_2", "test_batch"], batches, strict=True)
    ]
    name, md5 = write_pickle(folder / "batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", entries[:2])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", entries[2:])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return tmp_path, batches


def test_data_cifar10(cifar10):
    root, batches = cifar10
    data = CIFAR10Data(str(root), participants=2)
    train, test = data.load()
    assert torch.equal(train.inputs, torch.from_numpy(np.concatenate([b[0] for b in batches[:2]])).view(-1, 3, 32, 32))
    assert torch.equal(test.inputs, torch.from_numpy(batches[2][0]).view(-1, 3, 32, 32))
    assert test.targets.tolist() == batches[2][1].tolist()
    assert data.participant(0).tensors[0].shape[1:] == data.input_shape == (3, 32, 32)
    assert len(data.pooled()) + len(data.validation()) == 80


def test_data_cifar10_damaged(cifar10):
    root, _ = cifar10
    path = root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"damaged or incomplete CIFAR10.*cifar-10-batches-py"):
        CIFAR10Data(str(root), participants=2).setup()


def test_data_cifar100(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-100-python"
    pixels, labels = RNG.integers(0, 256, (400, 3072), dtype=np.uint8), np.arange(400) % 100
    content = {"data": pixels, "fine_labels": labels.tolist(), "coarse_labels": [0] * 400}
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [write_pickle(folder / "train", content)])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [write_pickle(folder / "test", content)])
    name, md5 = write_pickle(folder / "meta", {"fine_label_names": [str(n) for n in range(100)]})
    monkeypatch.setattr(datasets.CIFAR100, "meta", {"filename": name, "key": "fine_label_names", "md5": md5})
    data = CIFAR100Data(str(tmp_path), participants=2)
    assert data.num_classes == 100
    train, _ = data.load()
    assert torch.equal(train.inputs, torch.from_numpy(pixels).view(-1, 3, 32, 32))
    assert train.targets.tolist() == labels.tolist()


def test_data_svhn(tmp_path, monkeypatch):
    images, labels = RNG.integers(0, 256, (32, 32, 3, 40), dtype=np.uint8), np.arange(1, 41)[:, None] % 10
    labels[labels == 0] = 10  # the files call the digit 0 class 10
    split_list = {}
    for part in ("train", "test"):
        path = tmp_path / f"{part}_32x32.mat"
        savemat(path, {"X": images, "y": labels})
        split_list[part] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    data = SVHNData(str(tmp_path), participants=2)
    train, _ = data.load()
    assert torch.equal(train.inputs, torch.from_numpy(images).permute(3, 2, 0, 1))
    assert train.targets.tolist() == [*range(1, 10), 0] * 4
    assert train.targets.dtype == torch.int64
    data.setup()
    (tmp_path / "test_32x32.mat").write_bytes(b"")
    with pytest.raises(InputError, match="damaged or incomplete SVHN"):
        SVHNData(str(tmp_path), participants=2).setup()


@pytest.mark.parametrize(
    ("data_set", "layout"),
    [
        (CIFAR10Data, "cifar-10-batches-py"),
        (CIFAR100Data, "cifar-100-python"),
        (SVHNData, "train_32x32.mat and test_32x32.mat"),
    ],
)
def test_data_missing_folder(tmp_path, data_set, layout):
    with pytest.raises(InputError, match=rf"does not hold .*Expected {layout} there: set data.download=true"):
        data_set(str(tmp_path))


def test_data_download(tmp_path, monkeypatch):
    calls = []

    def fake(root, *, train, download):
        calls.append((train, download))
        if not train:
            raise OSError("no network")
        return datasets.FakeData(size=0)

    monkeypatch.setattr(CIFAR10Data, "reader", staticmethod(fake))
    monkeypatch.setattr(datasets.FakeData, "data", np.zeros((0, 32, 32, 3), np.uint8), raising=False)
    monkeypatch.setattr(datasets.FakeData, "targets", [], raising=False)
    data = CIFAR10Data(str(tmp_path), download=True)
    with pytest.raises(InputError, match=r"CIFAR10 could not be downloaded .*no network"):
        data.prepare_data()
    assert calls == [(True, True), (False, True)]
