"""The user's own arrays in one ``.npz`` file."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aequa_lightning.data.module import CollaborativeData, Split
from aequa_lightning.errors import InputError

KEYS = ("x_train", "y_train", "x_test", "y_test")
LAYOUT = (
    "expected are x_train and x_test, images (samples, height, width[, 1, 3 or 4 channels]) as uint8 or floats, or"
    " vectors (samples, features), and y_train and y_test, classes 0, 1, ... (samples,); write them with numpy.savez"
)


class NpzData(CollaborativeData):
    """Images or vectors with their classes in the arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``.

    Images are (samples, height, width) or (samples, height, width, channels), vectors (samples, features); uint8
    counts as 0..1, floats are taken as they are. Mean and standard deviation per channel or feature are measured on
    ``x_train``. Construction reads the labels and the headers only.

    Args:
        path: The ``.npz`` file.
        **kwargs: See `CollaborativeData`.

    Raises:
        InputError: When the file or an array is missing, or shapes or labels do not fit.
    """

    def __init__(self, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path
        if not Path(path).is_file():
            raise InputError(f"data.path {path} is no file; {LAYOUT}")
        try:
            with zipfile.ZipFile(path) as archive:
                missing = [key for key in KEYS if f"{key}.npy" not in archive.namelist()]
                if missing:
                    raise InputError(f"data.path {path} lacks {', '.join(missing)}; {LAYOUT}")
                headers = {key: _header(archive, key) for key in KEYS}
            with np.load(path) as arrays:
                self.num_classes = _count_classes(path, arrays["y_train"], arrays["y_test"])
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"data.path {path} cannot be read ({error}); {LAYOUT}") from error
        for part in ("train", "test"):
            (samples, *shape), dtype = headers[f"x_{part}"]
            if len(shape) not in (1, 2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)) or dtype.kind not in "uf":
                raise InputError(f"data.path {path}: x_{part} is {dtype} {(samples, *shape)}; {LAYOUT}")
            if dtype.kind == "u" and dtype != np.uint8:
                raise InputError(f"data.path {path}: x_{part} is {dtype}; store it as uint8 or floats")
            if samples != headers[f"y_{part}"][0][0]:
                raise InputError(
                    f"data.path {path}: x_{part} holds {samples} samples, y_{part} {headers[f'y_{part}'][0][0]}; they"
                    " must be as many"
                )
        if headers["x_train"][0][1:] != headers["x_test"][0][1:] or headers["x_train"][1] != headers["x_test"][1]:
            raise InputError(f"data.path {path}: x_train and x_test differ in the type or the shape of a sample")
        height_width = tuple(shape[:2])
        self.input_shape = (shape[2] if len(shape) == 3 else 1, *height_width) if len(shape) > 1 else (shape[0],)

    def load(self) -> tuple[Split, Split]:
        """Return the two parts, images with their channels first."""
        with np.load(self.path) as arrays:
            return self._split(arrays, "train"), self._split(arrays, "test")

    def _split(self, arrays: "np.lib.npyio.NpzFile", part: str) -> Split:
        inputs, targets = arrays[f"x_{part}"], arrays[f"y_{part}"].reshape(-1).astype(np.int64)
        if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
            row = int(np.argwhere(~np.isfinite(inputs))[0][0])
            raise InputError(f"data.path {self.path}: x_{part}[{row}] holds NaN or infinity; remove or fill it")
        if inputs.ndim == 4:
            inputs = np.moveaxis(inputs, -1, 1)
        inputs = inputs.reshape(-1, *self.input_shape)
        if inputs.dtype != np.uint8:
            inputs = inputs.astype(np.float32)
        return Split(torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(targets))


def _header(archive: zipfile.ZipFile, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of one array without reading its values."""
    with archive.open(f"{key}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return shape, dtype


def _count_classes(path: str, *labels: npt.NDArray[Any]) -> int:
    """Check the training and the test labels and return the number of classes."""
    for name, values in zip(("y_train", "y_test"), labels, strict=True):
        # Keras stores the labels of CIFAR as a column.
        if values.dtype.kind not in "iu" or values.size == 0 or values.shape not in {(values.size,), (values.size, 1)}:
            raise InputError(f"data.path {path}: {name} is {values.dtype} {values.shape}; {LAYOUT}")
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
