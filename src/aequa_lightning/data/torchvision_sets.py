"""SVHN, CIFAR-10 and CIFAR-100 as torchvision stores, downloads and checks them."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from typing_extensions import override

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path


class TorchvisionData(CollaborativeData):
    """Colour images that torchvision reads; it checks the files' MD5 when they are loaded.

    Args:
        root: Folder that holds the set in torchvision's layout.
        download: Fetch missing files with torchvision into ``root``.
        **kwargs: See `CollaborativeData`.

    Raises:
        InputError: When files are missing and ``download`` is off.
    """

    input_shape = (3, 32, 32)

    expected: ClassVar[tuple[str, ...]]

    def __init__(self, root: str, *, download: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root = str(user_path(root, "data.root"))
        self.download = download
        if not download and not all((Path(root) / name).exists() for name in self.expected):
            raise InputError(f"data.root ({root}) does not hold {self.title}. {self.remedy}")

    @property
    def title(self) -> str:
        """Name of the data set."""
        return type(self).__name__.removesuffix("Data")

    @property
    def remedy(self) -> str:
        """What the folder must hold, and how to get it."""
        return f"Expected {' and '.join(self.expected)} there: set data.download=true (torchvision), or copy them."

    def prepare_data(self) -> None:
        """Download the files where that was asked for and they are missing."""
        if self.download:
            try:
                self.read(train=True, download=True)
                self.read(train=False, download=True)
            except (RuntimeError, OSError) as error:
                raise InputError(
                    f"{self.title} could not be downloaded into data.root ({self.root}): {error}. {self.remedy}"
                ) from error

    def load(self) -> tuple[Split, Split]:
        """Return the training and the test images, uint8."""
        try:
            return Split(*self.read(train=True)), Split(*self.read(train=False))
        except RuntimeError as error:
            raise InputError(
                f"data.root ({self.root}) holds a damaged or incomplete {self.title}; remove it and get it again."
                f" {self.remedy}"
            ) from error

    @abstractmethod
    def read(self, *, train: bool, download: bool = False) -> tuple[Tensor, Tensor]:
        """Return images (samples, 3, 32, 32) as uint8 and classes as int64 of one part."""


class CIFAR10Data(TorchvisionData):
    """CIFAR-10, 50,000 + 10,000 colour images of 32 x 32 pixels in 10 classes (Krizhevsky, 2009).

    Args:
        root: Folder that holds ``cifar-10-batches-py``.
        download: Fetch missing files with torchvision into ``root``.
        **kwargs: See `CollaborativeData`.
    """

    num_classes = 10
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    flippable = True
    expected = ("cifar-10-batches-py",)
    reader: ClassVar[type[datasets.CIFAR10]] = datasets.CIFAR10

    @override
    def read(self, *, train: bool, download: bool = False) -> tuple[Tensor, Tensor]:
        part = self.reader(self.root, train=train, download=download)
        images = torch.from_numpy(np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)))
        return images, torch.tensor(part.targets, dtype=torch.int64)


class CIFAR100Data(CIFAR10Data):
    """CIFAR-100, 50,000 + 10,000 colour images of 32 x 32 pixels in 100 classes (Krizhevsky, 2009).

    Args:
        root: Folder that holds ``cifar-100-python``.
        download: Fetch missing files with torchvision into ``root``.
        **kwargs: See `CollaborativeData`.
    """

    num_classes = 100
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)
    expected = ("cifar-100-python",)
    reader = datasets.CIFAR100


class SVHNData(TorchvisionData):
    """Street View House Numbers, 73,257 + 26,032 cropped digits of 32 x 32 pixels (Netzer et al., 2011).

    Args:
        root: Folder that holds ``train_32x32.mat`` and ``test_32x32.mat``.
        download: Fetch missing files with torchvision into ``root``.
        **kwargs: See `CollaborativeData`.
    """

    num_classes = 10
    mean = (0.4377, 0.4438, 0.4728)
    std = (0.1980, 0.2010, 0.1970)
    expected = ("train_32x32.mat", "test_32x32.mat")

    @override
    def read(self, *, train: bool, download: bool = False) -> tuple[Tensor, Tensor]:
        part = datasets.SVHN(self.root, split="train" if train else "test", download=download)
        return torch.from_numpy(part.data), torch.from_numpy(part.labels.astype(np.int64))
