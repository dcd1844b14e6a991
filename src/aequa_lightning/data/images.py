"""Folders of image files: one folder per class, or TinyImageNet as it is distributed."""

import struct
import warnings
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path

# Endings of notes beside images, and of files that file managers create.
NOTES = (".txt", ".md", ".csv", ".json", ".xml", ".yaml", ".yml", ".html", ".ini", ".db")

Labelled = list[tuple[Path, int]]


class ImageFolderData(CollaborativeData):
    """Colour images in folders, ``train/CLASS/...`` and ``test/CLASS/...``; the classes are the folders' names, sorted.

    All images are decoded into memory, rotated by their EXIF data, resized and cropped to a square. Hidden files and
    folders are ignored, other files except notes with a warning. Images that 8 bits a channel cannot represent are
    refused: 16 bits, floats, transparent pixels, several images in a file.
    Mean and standard deviation are measured on the training part.

    Args:
        root: Folder that holds ``train`` and ``test``.
        image_size: Height and width of the images after resizing, in pixels, at least 1.
        mirrored: Whether a mirrored image still shows the same class (``augment`` then mirrors).
        **kwargs: See `CollaborativeData`.

    Raises:
        InputError: When a folder is missing, a class has no training images, or an image cannot be read without loss.
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
        return sorted(_class_folders(folder))

    def _files_by_class(self, part: str) -> Labelled:
        folder = self.root / part
        unknown = sorted(_class_folders(folder) - set(self.classes))
        if unknown:
            raise InputError(f"{folder} holds the class {unknown[0]!r}, which train lacks; expected {self.layout}")
        found = {name: image_files(folder / name) for name in self.classes}
        empty = [name for name, (files, _) in found.items() if not files]
        if len(empty) == len(found):
            raise InputError(f"{folder} holds no images; expected {self.layout}")
        if empty and part == "train":
            raise InputError(f"{folder / empty[0]} holds no images; expected {self.layout}")
        if empty:
            warnings.warn(f"{folder / empty[0]} holds no images: the class is not tested ({len(empty)}).", stacklevel=2)
        others = [path for _, left_out in found.values() for path in left_out]
        others += [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMG_EXTENSIONS]
        if others:
            warnings.warn(
                f"{others[0]} is left out ({len(others)} such files): taken are the classes' own files with the endings"
                f" {', '.join(IMG_EXTENSIONS)}.",
                stacklevel=2,
            )
        return [(path, number) for number, (files, _) in enumerate(found.values()) for path in files]

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


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return a folder's images and its other files except notes, both sorted and without hidden ones.

    Args:
        folder: Where to look, at any depth; it may be missing.
    """
    paths = [path for path in sorted(folder.rglob("*")) if not _is_hidden(path.relative_to(folder))]
    images = [path for path in paths if path.suffix.lower() in IMG_EXTENSIONS and path.is_file()]
    # Links to folders are not followed, and count as other files.
    others = [path for path in paths if path.is_symlink() or not path.is_dir()]
    taken = set(images)
    return images, [path for path in others if path not in taken and path.suffix.lower() not in NOTES]


def _class_folders(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    return {entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(Path(entry.name))}


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _open(path: Path, fit: v2.Transform) -> Tensor:
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            _check_lossless(path, image)
            fitted: Tensor = fit(ImageOps.exif_transpose(image).convert("RGB"))
            return fitted
    except InputError:
        raise
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        OSError,
        SyntaxError,
        ValueError,
        struct.error,
    ) as error:
        raise InputError(f"{path} cannot be read as an image ({error}); remove or replace it") from error


def _check_lossless(path: Path, image: Image.Image) -> None:
    """Raise an `InputError` for an image that three channels of eight bits cannot represent."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a telephone's photograph and its preview
        raise InputError(f"{path} holds {frames} images, of which one would be taken; store them apart")
    # Pillow silently reads 16 bits of several channels as eight; only the layout of the file's tiles shows it.
    layouts = [str(tile.args) for tile in getattr(image, "tile", [])]
    if image.mode.startswith(("I", "F")) or any(";16" in layout for layout in layouts):
        raise InputError(
            f"{path} has more than 8 bits a channel, which images here cannot hold; convert it to 8 bits, or store the"
            " numbers as floats for NpzData"
        )
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise InputError(f"{path} is transparent in part, so that its colours are not settled; give it a background")
