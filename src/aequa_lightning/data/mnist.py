"""MNIST and Fashion-MNIST from their four idx files, whose content is checked by SHA-256."""

import gzip
import hashlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torchvision
from torch import Tensor

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class IdxData(CollaborativeData):
    """Grey images in the four idx files of LeCun, Cortes and Burges, each plain or with ``.gz``.

    Args:
        root: Folder that holds the files themselves, or in torchvision's layout (``NAME/raw`` below it); None looks
            where the system's packages put them.
        download: Fetch missing files with torchvision into ``root``, in ``prepare_data``.
        **kwargs: See `CollaborativeData`.

    Raises:
        InputError: When files are missing and ``download`` is off.
    """

    num_classes = 10
    input_shape = (1, 28, 28)

    torchvision_name: ClassVar[str]
    system_folder: ClassVar[Path | None] = None
    how_to_get: ClassVar[str]
    checksums: ClassVar[tuple[str, str, str, str]]

    def __init__(self, root: str | None = None, *, download: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if download and root is None:
            raise InputError("data.download needs data.root, the folder to download into")
        self.root = None if root is None else str(user_path(root, "data.root"))
        self.download = download
        if not download:
            self._folder()

    def prepare_data(self) -> None:
        """Download the files where that was asked for and they are missing."""
        if self.download and self._find() is None:
            try:
                getattr(torchvision.datasets, self.torchvision_name)(self.root, download=True)
            except (RuntimeError, OSError) as error:
                raise InputError(
                    f"{self.torchvision_name} could not be downloaded into data.root ({self.root}): {error}."
                    f" Copy {', '.join(FILES)} there, or try again"
                ) from error

    def load(self) -> tuple[Split, Split]:
        """Return 60,000 training and 10,000 test images, uint8."""
        folder = self._folder()
        x_train, y_train, x_test, y_test = (
            read_idx(folder, name, sha256) for name, sha256 in zip(FILES, self.checksums, strict=True)
        )
        return Split(x_train[:, None], y_train.long()), Split(x_test[:, None], y_test.long())

    def _find(self) -> Path | None:
        """Return the folder that holds all four files, or None."""
        if self.root is None:
            folders = [self.system_folder] if self.system_folder else []
        else:
            root = Path(self.root)
            folders = [root, root / "raw", root / self.torchvision_name / "raw"]
        return next((folder for folder in folders if all(_variants(folder, name) for name in FILES)), None)

    def _folder(self) -> Path:
        folder = self._find()
        if folder is None:
            where = f"data.root ({self.root})" if self.root else f"{self.system_folder or 'data.root (not given)'}"
            raise InputError(
                f"{where} does not hold {self.torchvision_name}: expected {', '.join(FILES)}, each plain or with .gz,"
                f" in that folder or in {self.torchvision_name}/raw below it. {self.how_to_get}"
            )
        return folder


class FashionMNISTData(IdxData):
    """Fashion-MNIST, 60,000 + 10,000 grey images of 28 x 28 pixels (Xiao, Rasul, Vollgraf, arXiv 1708.07747).

    Args:
        root: Folder that holds the four idx files, or ``FashionMNIST/raw`` with them; None: Debian's
            ``/usr/share/datasets/fashion-mnist``.
        download: Fetch missing files with torchvision into ``root``.
        **kwargs: See `CollaborativeData`.
    """

    mean = (0.2860,)
    std = (0.3530,)
    flippable = True

    torchvision_name = "FashionMNIST"
    system_folder = Path("/usr/share/datasets/fashion-mnist")
    how_to_get = (
        "Get it with data.root=FOLDER data.download=true (torchvision), or with Debian's package"
        " dataset-fashion-mnist, which is found without data.root."
    )
    checksums = (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    )


class MNISTData(IdxData):
    """MNIST, 60,000 + 10,000 handwritten digits of 28 x 28 pixels (LeCun, Bottou, Bengio, Haffner, 1998).

    Args:
        root: Folder that holds the four idx files, or ``MNIST/raw`` with them.
        download: Fetch missing files with torchvision into ``root``.
        **kwargs: See `CollaborativeData`.
    """

    mean = (0.1307,)
    std = (0.3081,)

    torchvision_name = "MNIST"
    how_to_get = "Get it with data.root=FOLDER data.download=true (torchvision)."
    checksums = (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    )


def read_idx(folder: Path, name: str, sha256: str) -> Tensor:
    """Read one idx file of unsigned bytes, plain or with ``.gz``, and check its content.

    Args:
        folder: Where the file lies.
        name: Its name without ``.gz``.
        sha256: Expected SHA-256 of the unzipped bytes, 64 hexadecimal digits.

    Returns:
        A uint8 tensor of the shape that the header names.

    Raises:
        InputError: When the content is another one, or cannot be unzipped.
    """
    path = _variants(folder, name)[0]
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it and get it again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(
            f"{path} is damaged or another file: its unzipped SHA-256 is {found}, expected {sha256}; remove it and get"
            " it again"
        )
    # Header: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as big-endian int32.
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, offset=4).tolist()
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy())


def _variants(folder: Path, name: str) -> list[Path]:
    """Return the existing files among ``name`` and ``name.gz``, the plain one first."""
    return [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
