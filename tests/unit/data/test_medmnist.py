import numpy as np
import pytest

from aequa_lightning.data import MedMNISTData
from aequa_lightning.errors import InputError

RNG = np.random.default_rng(0)


def medical(path, *, shape=(28, 28), labels=1):
    """Write a file in the layout of MedMNIST: uint8 images, labels as a column, three parts."""
    content = {}
    for part, size in {"train": 60, "val": 12, "test": 21}.items():
        content[f"{part}_images"] = RNG.integers(0, 256, (size, *shape), dtype=np.uint8)
        content[f"{part}_labels"] = (np.arange(size * labels).reshape(size, labels) % 3).astype(np.uint8)
    np.savez_compressed(path, **content)
    return content


@pytest.mark.parametrize(("shape", "expected"), [((28, 28), (1, 28, 28)), ((28, 28, 3), (3, 28, 28))])
def test_medmnist_validation_part_is_the_servers(tmp_path, shape, expected):
    content = medical(tmp_path / "mnist.npz", shape=shape)
    data = MedMNISTData(str(tmp_path / "mnist.npz"), participants=3)
    assert (data.num_classes, data.input_shape) == (3, expected)
    images = {part: content[f"{part}_images"].astype(float) / 255 for part in ("train", "val", "test")}
    axes = tuple(range(3))
    mean, std = images["train"].mean(axes), images["train"].std(axes)
    for part, dataset in {"val": data.validation(), "test": data.test()}.items():
        inputs, targets = dataset.tensors
        want = (images[part] - mean) / std
        assert np.allclose(inputs.movedim(1, -1).numpy().reshape(want.shape), want, atol=1e-5)
        assert targets.tolist() == content[f"{part}_labels"].ravel().tolist()
    assert len(data.pooled()) == 60


def test_medmnist_what_is_refused(tmp_path):
    path = tmp_path / "mnist.npz"
    medical(path, labels=14)
    with pytest.raises(InputError, match=r"train_labels is uint8 of shape \(60, 14\)"):
        MedMNISTData(str(path))
    medical(path, shape=(28, 28, 28))
    with pytest.raises(InputError, match=r"train_images .*: it has 28 channels"):
        MedMNISTData(str(path))
    np.savez(path, x_train=RNG.random((4, 2)))
    with pytest.raises(InputError, match=r"lacks train_images, .*; expected is a file of https://medmnist.com"):
        MedMNISTData(str(path))
