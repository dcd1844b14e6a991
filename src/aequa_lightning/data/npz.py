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
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.data.npz_remedies import gap_remedy, input_fault, label_fault, label_type_fault
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path

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
        InputError: When the file or an array is missing, or shapes or labels do not fit; the message has the line of
            numpy that mends it.
    """

    layout: ClassVar[str] = LAYOUT
    # Names of the arrays of each part, the training part first and the test part last.
    arrays: ClassVar[tuple[tuple[str, str], ...]] = (("x_train", "y_train"), ("x_test", "y_test"))

    def __init__(self, path: str, *, mirrored: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path = str(user_path(path, "data.path"))
        self.flippable = mirrored
        with self._reading():
            headers = read_headers(path)
        missing = [key for pair in self.arrays for key in pair if key not in headers]
        if missing:
            raise InputError(f"data.path {path} lacks {', '.join(missing)}; {self.layout}")
        self.input_shape = self._sample_shape(headers)
        with self._reading(), np.load(path) as arrays:
            labels = {name: arrays[name] for _, name in self.arrays}
        self.num_classes = self._count_classes(labels)

    def load(self) -> tuple[Split, Split] | tuple[Split, Split, Split]:
        """Return the parts, images with their channels first."""
        return tuple(self._load(*names) for names in self.arrays)  # type: ignore[return-value]

    def _load(self, x: str, y: str) -> Split:
        with self._reading(), np.load(self.path) as arrays:
            inputs, targets = arrays[x], arrays[y]
        if inputs.dtype != np.uint8:
            # Wider types become float32 after the mean has been subtracted; see `normalised`.
            inputs = inputs.astype(np.float64 if inputs.dtype.itemsize > 4 else np.float32)
            fits = np.abs(inputs) <= np.finfo(np.float32).max
            rows = np.flatnonzero(~fits.reshape(len(inputs), -1).all(axis=1))
            if len(rows):
                raise InputError(
                    f"data.path {self.path}: {x}[{rows[0]}] holds NaN, infinity or a number beyond float32;"
                    f" mend or remove it ({len(rows)} samples do)"
                )
        if inputs.ndim == 4:
            inputs = np.moveaxis(inputs, -1, 1)
        images = torch.from_numpy(np.ascontiguousarray(inputs).reshape(-1, *self.input_shape))
        return Split(images, torch.from_numpy(targets.reshape(-1).astype(np.int64)))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise an `InputError` for a file that is missing, damaged or of another format."""
        if not Path(self.path).is_file():
            raise InputError(f"data.path {self.path} is no file; {self.layout}")
        try:
            yield
        except DAMAGE as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(f"data.path {self.path} cannot be read ({first:.200}); {self.layout}") from error

    def _sample_shape(self, headers: dict[str, Header]) -> tuple[int, ...]:
        """Check the headers against each other and return the shape of a sample, channels first."""
        for x, y in self.arrays:
            shape, dtype = headers[x]
            self._refuse(x, headers[x], input_fault(x, shape, dtype))
            labels, kind = headers[y]
            self._refuse(y, headers[y], label_type_fault(y, kind))
            if labels[:1] != shape[:1]:
                raise InputError(
                    f"data.path {self.path}: {x} has shape {shape}, {y} {labels}; give each sample a class"
                )
        first = self.arrays[0][0]
        (_, *sample), dtype = headers[first]
        for x, _ in self.arrays[1:]:
            (_, *other), kind = headers[x]
            if (sample, dtype) != (other, kind):
                raise InputError(
                    f"data.path {self.path}: samples of {first} are {dtype} {sample}, those of {x} {kind} {other};"
                    " they must be alike"
                )
        if len(sample) == 1:
            return (sample[0],)
        height, width, *channels = sample
        return (*(channels or [1]), height, width)

    def _count_classes(self, labels: dict[str, npt.NDArray[Any]]) -> int:
        """Check the labels of all parts and return the number of classes."""
        for name, values in labels.items():
            self._refuse(name, (values.shape, values.dtype), label_fault(name, values))
        first, *others = labels
        train = np.unique(labels[first]).tolist()
        if train != list(range(len(train))) or len(train) < 2:
            remedy = f"; {gap_remedy(first)}" if len(train) > 1 else ""
            raise InputError(
                f"data.path {self.path}: {first} holds the classes {_brief(train)}; they must be 0, 1, ... without a"
                f" gap, two at least{remedy}"
            )
        for name in others:
            unknown = sorted(set(np.unique(labels[name]).tolist()) - set(train))
            if unknown:
                raise InputError(
                    f"data.path {self.path}: {name} holds the classes {_brief(unknown)}, which {first} lacks"
                )
        return len(train)

    def _refuse(self, name: str, header: Header, fault: str | None) -> None:
        """Raise an `InputError` for an array that has a fault."""
        if fault:
            shape, dtype = header
            raise InputError(f"data.path {self.path}: {name} is {dtype} of shape {shape}: it {fault}")


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


def _brief(values: list[int]) -> str:
    return ", ".join(map(str, values[:10])) + (", ..." if len(values) > 10 else "")
