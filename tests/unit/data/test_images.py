import numpy as np
import pytest
import torch
from PIL import Image

from aequa_lightning.data import ImageFolderData, TinyImageNetData
from aequa_lightning.errors import InputError

COLOURS = {"ash": (10, 200, 30), "birch": (250, 0, 90)}


def save(path, colour, size=(12, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path):
    for part, count in (("train", 20), ("test", 4)):
        for name, colour in COLOURS.items():
            for number in range(count):
                save(tmp_path / part / name / f"{number}.png", colour, mode="RGBA" if number == 0 else "RGB")
    (tmp_path / "train" / "ash" / "notes.txt").write_text("no image")
    return tmp_path


def test_image_folder(folder):
    data = ImageFolderData(str(folder), image_size=6, participants=2, min_samples=2)
    assert (data.num_classes, data.input_shape, data.classes) == (2, (3, 6, 6), ["ash", "birch"])
    assert data.describe()["classes"] == ["ash", "birch"]
    train, test = data.load()
    assert train.inputs.shape == (40, 3, 6, 6)
    assert test.targets.tolist() == [0] * 4 + [1] * 4
    expected = torch.tensor([COLOURS["ash"], COLOURS["birch"]], dtype=torch.uint8)
    assert torch.equal(train.inputs, expected[train.targets][:, :, None, None].expand(-1, -1, 6, 6))
    data.setup()
    assert len(data.test()) == 8


def test_images_grey_images_get_three_channels_and_squares_keep_their_middle(folder):
    ramp = np.tile(np.arange(0, 240, 20, dtype=np.uint8), (6, 1))  # 6 high, 12 wide
    Image.fromarray(ramp).save(folder / "test" / "ash" / "0.png")
    test = ImageFolderData(str(folder), image_size=6).load()[1]
    assert torch.equal(test.inputs[0], torch.from_numpy(ramp[:, 3:9].copy()).expand(3, 6, 6))


def test_images_mirroring_is_a_choice(folder):
    assert ImageFolderData(str(folder), image_size=8, augment=True).augmentation.flip
    assert not ImageFolderData(str(folder), image_size=8, augment=True, mirrored=False).augmentation.flip


def test_images_what_is_missing(folder, tmp_path):
    with pytest.raises(InputError, match=r"holds 0 classes in train; expected train/CLASS/IMAGE"):
        ImageFolderData(str(tmp_path / "nowhere"), image_size=8)
    with pytest.raises(InputError, match=r"data.image_size is 0"):
        ImageFolderData(str(folder), image_size=0)
    save(folder / "test" / "cedar" / "0.png", (0, 0, 0))
    with pytest.raises(InputError, match="holds the class 'cedar', which train lacks"):
        ImageFolderData(str(folder), image_size=8).load()


def test_images_no_test_part(folder):
    (folder / "test").rename(folder / "elsewhere")
    with pytest.raises(InputError, match=r"test holds no images"):
        ImageFolderData(str(folder), image_size=8).load()


def test_images_broken_image(folder):
    path = folder / "train" / "ash" / "0.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"0.png cannot be read as an image"):
        ImageFolderData(str(folder), image_size=8).load()


@pytest.fixture
def tiny_imagenet(tmp_path):
    for name, colour in COLOURS.items():
        for number in range(10):
            save(tmp_path / "train" / name / "images" / f"{name}_{number}.JPEG", colour, (64, 64))
        (tmp_path / "train" / name / f"{name}_boxes.txt").write_text("boxes")
    for number, name in enumerate(["birch", "ash", "birch"]):
        save(tmp_path / "val" / "images" / f"val_{number}.JPEG", COLOURS[name], (64, 64), "L")
    rows = [f"val_{number}.JPEG\t{name}\t0\t0\t9\t9" for number, name in enumerate(["birch", "ash", "birch"])]
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_images_tiny_imagenet(tiny_imagenet):
    data = TinyImageNetData(str(tiny_imagenet), participants=2, min_samples=2)
    assert data.input_shape == (3, 64, 64)
    train, test = data.load()
    assert train.inputs.shape == (20, 3, 64, 64)
    assert train.targets.tolist() == [0] * 10 + [1] * 10
    assert test.targets.tolist() == [1, 0, 1]
    assert torch.equal(test.inputs[0, 0], test.inputs[0, 2])  # grey


def test_images_tiny_imagenet_annotations(tiny_imagenet):
    annotations = tiny_imagenet / "val" / "val_annotations.txt"
    annotations.write_text("val_0.JPEG\toak\t0\t0\t9\t9\n")
    with pytest.raises(InputError, match=r"'oak'.*whose class train lacks"):
        TinyImageNetData(str(tiny_imagenet)).load()
    annotations.unlink()
    with pytest.raises(InputError, match=r"val_annotations.txt is missing; expected the unpacked"):
        TinyImageNetData(str(tiny_imagenet)).load()
