import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch
import torchvision

from aequa_lightning.data import FashionMNISTData, MNISTData
from aequa_lightning.data.mnist import FILES
from aequa_lightning.errors import InputError

RNG = np.random.default_rng(0)
ARRAYS = {
    FILES[0]: RNG.integers(0, 256, (40, 28, 28), dtype=np.uint8),
    FILES[1]: np.arange(40, dtype=np.uint8) % 10,
    FILES[2]: RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8),
    FILES[3]: np.arange(20, dtype=np.uint8) % 10,
}


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four tiny idx files in torchvision's layout, which the class takes for the official ones."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in ARRAYS.items():
        (raw / name).write_bytes(idx(array))
    checksums = tuple(hashlib.sha256(idx(array)).hexdigest() for array in ARRAYS.values())
    monkeypatch.setattr(FashionMNISTData, "checksums", checksums)
    return raw


def compare(data):
    data.setup()
    mean, std = data.mean[0], data.std[0]
    assert torch.allclose(data.test().tensors[0], (torch.from_numpy(ARRAYS[FILES[2]])[:, None] / 255 - mean) / std)
    assert data.test().tensors[1].tolist() == ARRAYS[FILES[3]].tolist()
    assert len(data.pooled()) + len(data.validation()) == 40
    assert data.pooled().tensors[0].shape[1:] == data.input_shape == (1, 28, 28)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_mnist_folder_layouts(folder, level):
    root = [folder.parents[1], folder.parent, folder][level]
    compare(FashionMNISTData(str(root), participants=2))


def test_mnist_zipped_files(folder):
    for path in list(folder.iterdir())[:3]:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    compare(FashionMNISTData(str(folder), participants=2))


def test_mnist_torchvision_reads_the_same(folder):
    theirs = torchvision.datasets.FashionMNIST(str(folder.parents[1]), train=False)
    ours = FashionMNISTData(str(folder), participants=2).load()[1]
    assert torch.equal(ours.inputs[:, 0], theirs.data)
    assert torch.equal(ours.targets, theirs.targets)


def test_mnist_missing_file(folder):
    (folder / FILES[3]).unlink()
    with pytest.raises(InputError, match=r"does not hold FashionMNIST.*t10k-labels.*data.download=true.*Debian"):
        FashionMNISTData(str(folder))
    with pytest.raises(InputError, match=r"data.root \(not given\) does not hold MNIST"):
        MNISTData()


def test_mnist_wrong_content(folder):
    content = bytearray((folder / FILES[0]).read_bytes())
    content[100] ^= 1
    (folder / FILES[0]).write_bytes(content)
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte is damaged or another file.*expected"):
        FashionMNISTData(str(folder), participants=2).setup()


def test_mnist_truncated_archive(folder):
    path = folder / FILES[2]
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:-50])
    path.unlink()
    with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte.gz cannot be read"):
        FashionMNISTData(str(folder), participants=2).setup()


def test_mnist_fashion_is_not_mnist(folder):
    with pytest.raises(InputError, match="another file"):
        MNISTData(str(folder), participants=2).setup()


def test_mnist_download(tmp_path, folder, monkeypatch):
    calls = []

    def fake(root, *, download):
        calls.append((root, download))
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fake)
    with pytest.raises(InputError, match=r"data.download needs data.root"):
        FashionMNISTData(download=True)
    FashionMNISTData(str(folder), download=True, participants=2).prepare_data()
    assert calls == []  # the files are there
    empty = str(tmp_path / "empty")
    data = FashionMNISTData(empty, download=True)
    with pytest.raises(InputError, match=r"could not be downloaded into data.root .*no network"):
        data.prepare_data()
    assert calls == [(empty, True)]
    with pytest.raises(InputError, match="does not hold"):
        data.setup()


@pytest.mark.skipif(
    not FashionMNISTData.system_folder.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_mnist_debians_package():
    data = FashionMNISTData(participants=10)
    data.setup()
    assert (len(data.pooled()), len(data.validation()), len(data.test())) == (48000, 12000, 10000)
    assert (data.class_counts() == 480).all()
    inputs = data.pooled().tensors[0]
    assert inputs.mean().abs() < 0.005
    assert abs(inputs.std() - 1) < 0.005
