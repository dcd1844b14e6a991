import re

import numpy as np
import pytest
import torch

from aequa_lightning.data import NpzData
from aequa_lightning.errors import InputError

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 3


def arrays(shape=(8, 6), dtype=np.uint8, **changes):
    inputs = RNG.integers(0, 256, (90, *shape)).astype(dtype)
    content = {"x_train": inputs[:60], "y_train": LABELS, "x_test": inputs[60:], "y_test": LABELS[:30]}
    return {key: value for key, value in (content | changes).items() if value is not None}


@pytest.fixture
def write(tmp_path):
    def write(content, save=np.savez):
        path = tmp_path / "data.npz"
        save(path, **content)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((8, 6), (1, 8, 6)), ((8, 6, 1), (1, 8, 6)), ((8, 6, 3), (3, 8, 6)), ((5,), (5,))],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_shapes_and_types(write, shape, expected, dtype, save):
    content = arrays(shape, dtype)
    data = NpzData(write(content, save), participants=2)
    assert (data.num_classes, data.input_shape) == (3, expected)
    inputs, targets = data.test().tensors
    assert inputs.shape == (30, *expected)
    assert inputs.dtype == torch.float32
    assert targets.tolist() == content["y_test"].tolist()
    # The same numbers by numpy alone: over all axes but the channels' (the last; the only one of (8, 6) images).
    train, test = (content[key].astype(float) for key in ("x_train", "x_test"))
    axes = (0, 1, 2) if len(shape) > 1 else (0,)
    want = (test - train.mean(axes)) / train.std(axes)
    got = inputs.movedim(1, -1).reshape(want.shape).numpy()
    assert np.allclose(got, want, atol=1e-4)


def test_npz_labels_as_a_column(write):
    data = NpzData(write(arrays(y_train=LABELS[:, None], y_test=LABELS[:30, None].astype(np.uint8))), participants=2)
    assert data.num_classes == 3
    assert data.test().tensors[1].tolist() == LABELS[:30].tolist()


def test_npz_construction_reads_no_inputs(write, monkeypatch):
    path = write(arrays())
    read = []
    original = np.lib.npyio.NpzFile.__getitem__
    monkeypatch.setattr(
        np.lib.npyio.NpzFile, "__getitem__", lambda file, key: (read.append(key), original(file, key))[1]
    )
    NpzData(path)
    assert sorted(read) == ["y_test", "y_train"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (arrays(y_test=None, x_test=None), "lacks x_test, y_test; expected are"),
        (arrays(x_test=np.zeros((30, 8, 7), np.uint8)), r"x_train are uint8 \[8, 6\], those of x_test uint8 \[8, 7\]"),
        (arrays(x_test=np.zeros((30, 8, 6))), r"those of x_test float64"),
        (arrays(y_train=LABELS[:59]), r"x_train has shape \(60, 8, 6\), y_train \(59,\)"),
        (arrays(y_train=0 * LABELS), r"y_train holds the classes 0; they must be 0, 1.*two at least$"),
        (arrays(y_test=LABELS[:30] + 1), r"y_test holds the classes 3, which y_train lacks"),
    ],
)
def test_npz_what_does_not_fit(write, content, message):
    with pytest.raises(InputError, match=message):
        NpzData(write(content))


def run_remedy(content, message):
    """Run the lines of numpy that a message gives for the arrays of the training and the test part."""
    lines = re.findall(r"(?:write |ranges: |column: )(.+?)(?:, then (.+))?$", message)[0]
    for line in filter(None, lines):
        for one in (line, line.replace("x_train", "x_test")) if "x_train" in line else line.split(" and "):
            exec(one, {"numpy": np}, content)
    if "y_test" in content and content["y_test"].dtype.kind in "US":
        content["y_test"] = np.searchsorted(content["classes"], content["y_test"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (3, 8, 6)}, r"x_train is uint8 of shape \(60, 3, 8, 6\): it has its channels first"),
        ({"shape": (8, 6, 2)}, r"it has 2 channels, and images have 1, 3 or 4"),
        ({"shape": (2, 2, 8, 6)}, r"it has 4 dimensions a sample"),
        ({"shape": (2, 2, 2, 2, 3)}, r"it has 5 dimensions a sample"),
        ({"shape": ()}, r"it has one number a sample"),
        ({"dtype": np.int32}, r"x_train is int32 .*: it holds whole numbers of a type"),
        ({"dtype": bool}, r"x_train is bool .*: it holds truth values"),
        ({"dtype": str}, r"it holds texts; if they are digits"),
    ],
)
def test_npz_line_that_mends_the_inputs(write, changes, message):
    content = arrays(**changes)
    with pytest.raises(InputError, match=message) as error:
        NpzData(write(content))
    run_remedy(content, str(error.value).removesuffix(", else see TableData"))
    NpzData(write(content), participants=2).setup()


NAMES = np.array(["cat", "dog", "owl"])[LABELS]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (LABELS.astype(float), None, r"y_train is float64 .*: it holds classes as floats"),
        (LABELS > 0, LABELS[:30] > 0, r"y_train is bool .*: it holds truth values"),
        (np.eye(3)[LABELS], None, r"y_train is float64 of shape \(60, 3\): it is one-hot"),
        (np.eye(3)[LABELS] * 0.8 + 0.1, None, r"it has 3 numbers a sample; if they are scores"),
        (np.eye(3, dtype=int)[LABELS] | [1, 0, 0], None, r"it holds several labels a sample"),
        (NAMES, NAMES[:30], r"y_train is <U3 of shape \(60,\): it holds names"),
        (2 * LABELS, None, r"y_train holds the classes 0, 2, 4; they must be 0, 1"),
        (LABELS - 1, None, r"y_train holds the classes -1, 0, 1; they must be 0, 1"),
        (np.linspace(0, 3, 60), None, r"it holds measured values, and only classes can be learned"),
    ],
)
def test_npz_line_that_mends_the_labels(write, train, test, message):
    content = arrays(y_train=train, y_test=LABELS[:30] % 2 if test is None else test)
    with pytest.raises(InputError, match=message) as error:
        NpzData(write(content))
    run_remedy(content, str(error.value).replace("; choose a column", "; column"))
    content["y_test"] = content["y_test"].astype(int)
    content = {key: value for key, value in content.items() if key[1] == "_"}
    if "several" not in message:
        assert NpzData(write(content), participants=2).num_classes in (2, 3, 4)


def test_npz_objects_are_refused_by_their_header(write):
    with pytest.raises(InputError, match=r"x_train is object .*: it holds Python objects; write x_train = numpy.stack"):
        NpzData(write(arrays(dtype=object)))
    with pytest.raises(InputError, match=r"y_train is object .*astype\(str\), then classes, y_train = numpy.unique"):
        NpzData(write(arrays(y_train=NAMES.astype(object))))
    with pytest.raises(InputError, match=r"y_train .*: it holds NaN or infinity"):
        NpzData(write(arrays(y_train=np.full(60, np.nan))))
    with pytest.raises(InputError, match=r"y_train .*: it is no array of numbers"):
        NpzData(write(arrays(y_train=LABELS.astype("datetime64[D]"))))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_npz_numbers_that_are_none(write, value):
    content = arrays(dtype=np.float64)
    content["x_train"][17, 3, 2] = value
    data = NpzData(write(content), participants=2)
    with pytest.raises(InputError, match=r"x_train\[17\] holds NaN, infinity .*1 samples"):
        data.setup()


def test_npz_no_file_and_no_archive(tmp_path, write):
    with pytest.raises(InputError, match=r"nowhere.npz is no file; expected are x_train"):
        NpzData(str(tmp_path / "nowhere.npz"))
    path = tmp_path / "text.npz"
    path.write_text("no zip")
    with pytest.raises(InputError, match=r"text.npz cannot be read"):
        NpzData(str(path))
    full = write(arrays())
    with open(full, "r+b") as file:  # noqa: PTH123 - in place
        file.truncate(4000)
    with pytest.raises(InputError, match=r"data.npz cannot be read"):
        NpzData(full)


def test_npz_damage_after_the_headers(write):
    path = write(arrays(), np.savez)
    with open(path, "r+b") as file:  # noqa: PTH123 - in place
        file.seek(1500)
        file.write(b"\x55" * 40)
    with pytest.raises(InputError, match=r"data.npz cannot be read"):
        NpzData(path, participants=2).setup()


def test_npz_real_cifar10_tiles(real_data, write):
    image = pytest.importorskip("PIL.Image")

    def tiles(part):
        mosaic = np.asarray(image.open(real_data / "cifar10" / f"{part}_00.jpg"))
        images = mosaic.reshape(25, 32, 40, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
        return images, np.load(real_data / "cifar10" / f"{part}_labels.npy")[:1000]

    (x_train, y_train), (x_test, y_test) = tiles("train"), tiles("test")
    path = write({"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test})
    data = NpzData(path, participants=5, mirrored=True, augment=True)
    data.setup()
    assert (data.num_classes, data.input_shape) == (10, (3, 32, 32))
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.02)  # of all 50,000
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=0.02)
    assert data.augmentation.flip
