"""Loading loses nothing silently: each image and number is taken as it is, refused, or said to be left out."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aequa_lightning.data import NpzData
from aequa_lightning.data.images import ImageFolderData
from aequa_lightning.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for part in ("train", "test"):
        for shade, name in enumerate("ab"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(20):
                pixels = draw.integers(0, 100, (6, 6, 3)) + 100 * shade
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / part / name / f"{number:02d}.png")
    return tmp_path


def _load(folder: Path) -> ImageFolderData:
    data = ImageFolderData(str(folder), image_size=6, participants=2)
    data.setup()
    return data


def test_data_what_is_hidden_is_no_class_and_gives_no_sample(folder: Path) -> None:
    for place in (".ipynb_checkpoints", "a/.ipynb_checkpoints", "__MACOSX", "b/.thumbnails/large"):
        (folder / "train" / place).mkdir(parents=True)
        (folder / "train" / place / "0.png").write_bytes((folder / "train" / "a" / "00.png").read_bytes())
    (folder / "train" / "a" / "._00.png").write_bytes(b"resource fork")
    data = _load(folder)
    assert data.classes == ["a", "b"]
    assert len(data.pooled()) + len(data.validation()) == 40


def test_data_empty_class_is_refused_in_training_and_said_in_testing(folder: Path) -> None:
    (folder / "train" / "c").mkdir()
    with pytest.raises(InputError, match=r"train/c holds no images"):
        _load(folder)
    (folder / "train" / "c" / "0.png").write_bytes((folder / "train" / "a" / "00.png").read_bytes())
    with (
        pytest.warns(UserWarning, match="class 2 has one training sample"),
        pytest.warns(UserWarning, match=r"test/c holds no images: the class is not tested"),
    ):
        _load(folder)


@pytest.mark.parametrize("name", ["train/a/x.heic", "train/a/deep/x.gif", "train/x.png", "test/b/x.npy"])
def test_data_files_that_are_left_out_are_named(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"0")
    with pytest.warns(UserWarning, match=rf"{Path(name).name} is left out \(1 such files\)"):
        _load(folder)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def _frames() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 6)).save(file, "tiff", save_all=True, append_images=[Image.new("RGB", (6, 6), "red")])
    return file.getvalue()


def _deep_colour() -> bytes:
    """Return a PNG of three channels of 16 bits, which Pillow reads but does not write."""
    import struct
    import zlib

    rows = b"".join(b"\0" + np.arange(18, dtype=">u2").tobytes() for _ in range(6))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.png", _png(Image.fromarray(np.full((6, 6), 40000, np.uint16))), "more than 8 bits"),
        ("x.png", _deep_colour(), "more than 8 bits"),
        ("x.png", _png(Image.new("RGBA", (6, 6), (255, 0, 0, 128))), "transparent"),
        ("x.png", _png(Image.new("LA", (6, 6), (255, 0))), "transparent"),
        ("x.tiff", _frames(), "holds 2 images"),
        ("x.png", _png(Image.new("RGB", (6, 6)))[:45], "cannot be read"),
        ("x.jpg", b"", "cannot be read"),
    ],
)
def test_data_what_eight_bits_cannot_hold_is_refused(folder: Path, name: str, content: bytes, words: str) -> None:
    (folder / "train" / "a" / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"train/a/{name} .*{words}"):
        _load(folder)


def test_data_opaque_alpha_palettes_grey_and_turned_images_are_read_as_they_look(folder: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    image = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter
    names = {}
    for name, content, exif, expected in (
        ("opaque", image.convert("RGBA"), None, pixels),
        ("palette", image.quantize(64), None, np.asarray(image.quantize(64).convert("RGB"))),
        ("grey", image.convert("L"), None, np.asarray(image.convert("L").convert("RGB"))),
        ("turned", image, turned, np.rot90(pixels, -1)),
    ):
        content.save(folder / "train" / "a" / f"x-{name}.png", exif=exif)
        names[f"x-{name}.png"] = expected
    data = ImageFolderData(str(folder), image_size=6, participants=2)
    files = data.train_files()
    inputs = data.load()[0].inputs
    for image_as_read, (path, _) in zip(inputs, files, strict=True):
        if path.name in names:
            np.testing.assert_array_equal(image_as_read.permute(1, 2, 0).numpy(), names[path.name], err_msg=path.name)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1.7e9, -1e12])
def test_data_feature_far_from_zero_keeps_what_it_tells(tmp_path: Path, offset: float) -> None:
    draw, y = np.random.default_rng(0), np.tile(np.arange(2), 200)
    x = np.c_[offset + draw.normal(size=400) + 3 * y, draw.normal(size=400)]
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = NpzData(str(tmp_path / "x.npz"), participants=2)
    seen = data.test().tensors[0].double().numpy()
    np.testing.assert_allclose(seen, (x - x.mean(0)) / x.std(0), atol=1e-3)


def test_data_constant_inputs_are_said_or_refused(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    x[:, 1] = 5.0
    np.savez(tmp_path / "one.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.warns(UserWarning, match=r"feature 1 is the same in all training samples.*\(1 of 3 are\)"):
        NpzData(str(tmp_path / "one.npz"), participants=2).setup()
    np.savez(tmp_path / "all.npz", x_train=0 * x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(InputError, match="all training inputs are alike"):
        NpzData(str(tmp_path / "all.npz"), participants=2).setup()


def test_data_validation_leaves_the_participants_a_sample_of_each_class(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(43, 3)), np.r_[np.arange(40) % 2, 2, 2, 2]
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    data = NpzData(str(tmp_path / "x.npz"), participants=2, validation_share=0.9, min_samples=1)
    assert data.class_counts().sum(axis=0).tolist() == [2, 2, 1]
