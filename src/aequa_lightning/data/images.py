"""Folders of image files: one folder per class, or TinyImageNet as it is distributed."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

from aequa_lightning.data.module import CollaborativeData, Split
from aequa_lightning.errors import InputError
from aequa_lightning.paths import user_path

Labelled = list[tuple[Path, int]]


class ImageFolderData(CollaborativeData):
    """Colour images in folders, ``train/CLASS/...`` and ``test/CLASS/...``; the classes are the folders' names, sorted.

    All images are decoded into memory, resized and cropped to a square. Mean and standard deviation are measured on
    the training part.

    Args:
        root: Folder that holds ``train`` and ``test``.
        image_size: Height and width of the images after resizing, in pixels, at least 1.
        mirrored: Whether a mirrored image still shows the same class (``augment`` then mirrors).
        **kwargs: See `CollaborativeData`.

    Raises:
        InputError: When a folder is missing or holds no image, or when a class of the test part has no training images.
    """

    layout = "train/CLASS/IMAGE and test/CLASS/IMAGE, with at least two classes"

    def __init__(self, root: str, *, image_size: int, mirrored: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if image_size < 1:
            raise InputError(f"data.image_size is {image_size}; it must be at least 1 pixel")
        self.root = user_path(root, "data.root")
        self.classes = self._class_names()
        if len(self.classes) < 2:
            raise InputError(f"data.root ({root}) holds {len(self.classes)} classes in train; expected {self.layout}")
        self.num_classes = len(self.classes)
        self.input_shape = (3, image_size, image_size)
        self.flippable = mirrored

    def load(self) -> tuple[Split, Split]:
        """Return the decoded training and test images, uint8."""
        return self._decode(self.train_files()), self._decode(self.test_files())

    def train_files(self) -> Labelled:
        """Return the training images with their classes."""
        return self._files_by_class("train")

    def test_files(self) -> Labelled:
        """Return the test images with their classes."""
        return self._files_by_class("test")

    def _class_names(self) -> list[str]:
        folder = self.root / "train"
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []

    def _files_by_class(self, part: str) -> Labelled:
        folder = self.root / part
        unknown = (
            sorted({e.name for e in folder.iterdir() if e.is_dir()} - set(self.classes)) if folder.is_dir() else []
        )
        if unknown:
            raise InputError(f"{folder} holds the class {unknown[0]!r}, which train lacks; expected {self.layout}")
        files = [
            (path, number)
            for number, name in enumerate(self.classes)
            for path in sorted((folder / name).rglob("*"))
            if path.suffix.lower() in IMG_EXTENSIONS
        ]
        if not files:
            raise InputError(f"{folder} holds no images; expected {self.layout}")
        return files

    def _decode(self, files: Labelled) -> Split:
        size = self.input_shape[-1]
        fit = v2.Compose([v2.PILToTensor(), v2.Resize(size, antialias=True), v2.CenterCrop(size)])
        images = torch.empty((len(files), *self.input_shape), dtype=torch.uint8)
        for image, (path, _) in zip(images, files, strict=True):
            image.copy_(_open(path, fit))
        return Split(images, torch.tensor([number for _, number in files]))


class TinyImageNetData(ImageFolderData):
    """TinyImageNet, 100,000 + 10,000 colour images of 64 x 64 pixels in 200 classes, from its unpacked archive.

    The archive's test labels are not public; its ``val`` part serves as the test part, as is usual.

    Args:
        root: Folder ``tiny-imagenet-200`` with ``train/CLASS/images`` and ``val/images``, ``val/val_annotations.txt``.
        image_size: Height and width of the images after resizing, in pixels.
        **kwargs: See `CollaborativeData`.
    """

    layout = (
        "the unpacked tiny-imagenet-200.zip of http://cs231n.stanford.edu: train/CLASS/images/IMAGE, val/images/IMAGE"
        " and val/val_annotations.txt"
    )

    def __init__(self, root: str, *, image_size: int = 64, **kwargs: Any) -> None:
        super().__init__(root, image_size=image_size, **kwargs)

    def test_files(self) -> Labelled:
        """Return the images of ``val`` with their classes."""
        annotations = self.root / "val" / "val_annotations.txt"
        if not annotations.is_file():
            raise InputError(f"{annotations} is missing; expected {self.layout}")
        numbers = {name: number for number, name in enumerate(self.classes)}
        rows = [line.split("\t") for line in annotations.read_text(encoding="utf-8").splitlines()]
        unknown = [row for row in rows if len(row) < 2 or row[1] not in numbers]
        if unknown:
            raise InputError(f"{annotations} holds {unknown[0]}, whose class train lacks; expected {self.layout}")
        return [(self.root / "val" / "images" / row[0], numbers[row[1]]) for row in rows]


def _open(path: Path, fit: v2.Transform) -> Tensor:
    try:
        with Image.open(path) as image:
            fitted: Tensor = fit(image.convert("RGB"))
            return fitted
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} cannot be read as an image ({error}); remove or replace it") from error
