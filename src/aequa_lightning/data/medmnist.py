"""MedMNIST: medical images in the layout of its ``.npz`` files."""

from typing import ClassVar

from aequa_lightning.data.npz import NpzData


class MedMNISTData(NpzData):
    """One of the MedMNIST data sets, from the ``.npz`` file that it is distributed as (Yang et al., Sci Data 2023).

    The file holds ``train_images``, ``val_images`` and ``test_images``, uint8 of shape (samples, height, width) or
    (samples, height, width, 3), and ``train_labels``, ``val_labels`` and ``test_labels``, one class each. Its
    validation part is the server's. Data sets of several labels a sample (ChestMNIST) and of volumes are refused.

    Args:
        path: The ``.npz`` file, such as ``bloodmnist.npz``.
        mirrored: Whether a mirrored image still shows the same class (``augment`` then mirrors).
        **kwargs: See `CollaborativeData`.

    Raises:
        InputError: When the file or an array is missing, or shapes or labels do not fit.
    """

    layout: ClassVar[str] = (
        "expected is a file of https://medmnist.com with train_images, train_labels, val_images, val_labels,"
        " test_images and test_labels; NpzData reads arrays of your own"
    )
    arrays: ClassVar[tuple[tuple[str, str], ...]] = tuple(
        (f"{part}_images", f"{part}_labels") for part in ("train", "val", "test")
    )
