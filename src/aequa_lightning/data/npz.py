"""Data sets of the user's own arrays in one ``.npz`` file."""

import lzma
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path

KEYS = ("x_train", "y_train", "x_test", "y_test")
LAYOUT = (
    "expected are x_train and x_test, images (samples, height, width[, 1, 3 or 4 channels]) as uint8 or floats, or"
    " vectors (samples, features), and y_train and y_test, classes 0, 1, ... (samples,); write them with numpy.savez"
)

# Errors of zipfile and numpy for files that are damaged, encrypted, too large or of unsupported formats.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError),
    *(ValueError, TypeError, KeyError, RuntimeError, SyntaxError, MemoryError, OverflowError),
)

Header = tuple[tuple[int, ...], np.dtype[Any]]


class NpzData(CollaborativeData):
    """Images or vectors with their classes in the arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``.

    Images are (samples, height, width) or (samples, height, width, channels), vectors (samples, features); uint8
    counts as 0..1, floats are taken as they are. Mean and standard deviation per channel or feature are measured on
    ``x_train``. Construction reads the labels and the headers only.

    Args:
        path: The ``.npz`` file.
        mirrored: Whether a mirrored image still shows the same class (``augment`` then mirrors).
        **kwargs: See `CollaborativeData`.

    Raises:
        InputError: When the file or an array is missing, or shapes or labels do not fit.
    """

    def __init__(self, path: str, *, mirrored: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path = str(user_path(path, "data.path"))
        self.flippable = mirrored
        with _reading(path):
            headers = read_headers(path)
        missing = [key for key in KEYS if key not in headers]
        if missing:
            raise InputError(f"data.path {path} lacks {', '.join(missing)}; {LAYOUT}")
        self.input_shape = _sample_shape(path, headers)
        with _reading(path), np.load(path) as arrays:
            labels = arrays["y_train"], arrays["y_test"]
        self.num_classes = _count_classes(path, *labels)

    def load(self) -> tuple[Split, Split]:
        """Return the two parts, images with their channels first."""
        return self._load("train"), self._load("test")

    def _load(self, part: str) -> Split:
        with _reading(self.path), np.load(self.path) as arrays:
            inputs, targets = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if inputs.dtype != np.uint8:
            # Wider types become float32 after the mean has been subtracted; see `normalised`.
            inputs = inputs.astype(np.float64 if inputs.dtype.itemsize > 4 else np.float32)
            fits = np.abs(inputs) <= np.finfo(np.float32).max
            rows = np.flatnonzero(~fits.reshape(len(inputs), -1).all(axis=1))
            if len(rows):
                raise InputError(
                    f"data.path {self.path}: x_{part}[{rows[0]}] holds NaN, infinity or a number beyond float32;"
                    f" mend or remove it ({len(rows)} samples do)"
                )
        if inputs.ndim == 4:
            inputs = np.moveaxis(inputs, -1, 1)
        images = torch.from_numpy(np.ascontiguousarray(inputs).reshape(-1, *self.input_shape))
        return Split(images, torch.from_numpy(targets.reshape(-1).astype(np.int64)))


def read_headers(path: str) -> dict[str, Header]:
    """Return shape and type of every array in an ``.npz`` file without reading the values.

    Args:
        path: The file.

    Returns:
        (shape, dtype) by the array's name.
    """
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                if not dtype.hasobject:  # refused by its type later
                    _check_size(name, math.prod(shape) * dtype.itemsize, archive.getinfo(name).file_size - file.tell())
            headers[name.removesuffix(".npy")] = (shape, dtype)
    return headers


def _check_size(name: str, told: int, held: int) -> None:
    """Check, before memory is allocated, that an array is as large as its header says and fits into this machine.

    Raises:
        ValueError: The size differs, or exceeds the memory.
    """
    if told != held:
        raise ValueError(f"{name} holds {held} bytes, its header says {told}")
    if hasattr(os, "sysconf") and told > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        raise ValueError(f"{name} has {told / 2**30:.0f} GiB, more than this machine's memory")


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Raise an `InputError` for a file that is missing, damaged or of another format."""
    if not Path(path).is_file():
        raise InputError(f"data.path {path} is no file; {LAYOUT}")
    try:
        yield
    except DAMAGE as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"data.path {path} cannot be read ({first:.200}); {LAYOUT}") from error


def _sample_shape(path: str, headers: dict[str, Header]) -> tuple[int, ...]:
    """Check the headers against each other and return the shape of a sample, channels first."""
    for part in ("train", "test"):
        shape, dtype = headers[f"x_{part}"]
        fits = len(shape) in (2, 3) or (len(shape) == 4 and shape[3] in (1, 3, 4))
        if not fits or 0 in shape or not (dtype == np.uint8 or dtype.kind == "f"):
            raise InputError(f"data.path {path}: x_{part} is {dtype} of shape {shape}; {LAYOUT}")
        labels, _ = headers[f"y_{part}"]
        if labels[:1] != shape[:1]:
            raise InputError(
                f"data.path {path}: x_{part} has shape {shape}, y_{part} {labels}; give each sample a class"
            )
    (_, *sample), dtype = headers["x_train"]
    (_, *test_sample), test_dtype = headers["x_test"]
    if sample != test_sample or dtype != test_dtype:
        raise InputError(
            f"data.path {path}: samples of x_train are {dtype} {sample}, those of x_test {test_dtype} {test_sample};"
            " they must be alike"
        )
    if len(sample) == 1:
        return (sample[0],)
    height, width, *channels = sample
    return (*(channels or [1]), height, width)


def _count_classes(path: str, *labels: npt.NDArray[Any]) -> int:
    """Check the training and the test labels and return the number of classes."""
    for name, values in zip(("y_train", "y_test"), labels, strict=True):
        # Keras stores the labels of CIFAR as a column.
        if values.dtype.kind not in "iu" or values.shape not in {(values.size,), (values.size, 1)}:
            raise InputError(f"data.path {path}: {name} is {values.dtype} of shape {values.shape}; {LAYOUT}")
    train, test = (np.unique(values).tolist() for values in labels)
    if train != list(range(len(train))) or len(train) < 2:
        raise InputError(
            f"data.path {path}: y_train holds the classes {_brief(train)}; they must be 0, 1, ... without a gap, two"
            " at least"
        )
    if not set(test) <= set(train):
        unknown = sorted(set(test) - set(train))
        raise InputError(f"data.path {path}: y_test holds the classes {_brief(unknown)}, which y_train lacks")
    return len(train)


def _brief(values: list[int]) -> str:
    return ", ".join(map(str, values[:10])) + (", ..." if len(values) > 10 else "")
