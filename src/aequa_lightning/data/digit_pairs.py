"""Pairs of scikit-learn's digits side by side, labelled by which digits they show; they need no download."""

import numpy as np
import torch

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.data.preparation import stratified_split

PAIRS, TEST_PAIRS = 2000, 500


class DigitPairsData(CollaborativeData):
    """Two handwritten digits of scikit-learn in a picture of 8 x 16 pixels; a label tells whether a digit is shown.

    2,000 training and 500 test pairs are drawn with seed 0 from the training and the test part of
    :class:`~aequa_lightning.data.DigitsData`, whatever the ``partition_seed``.
    """

    num_classes = 10
    target_kind = "labels"
    input_shape = (1, 8, 16)

    def load(self) -> tuple[Split, Split]:
        """Return 2,000 training and 500 test pairs."""
        from sklearn.datasets import load_digits  # takes a second

        pixels, labels = load_digits(return_X_y=True)
        images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
        classes = torch.tensor(labels, dtype=torch.int64)
        test, train = stratified_split(labels, 0.2, seed=0)
        generator = np.random.default_rng(0)
        return (
            pair(images[train], classes[train], generator.integers(len(train), size=(2, PAIRS))),
            pair(images[test], classes[test], generator.integers(len(test), size=(2, TEST_PAIRS))),
        )


def pair(images: torch.Tensor, classes: torch.Tensor, chosen: np.ndarray) -> Split:
    """Put two images side by side.

    Args:
        images: Shape (samples, channels, height, width).
        classes: Class of each, int64 of shape (samples,).
        chosen: The left and the right image of each pair, (2, pairs).

    Example:
        >>> pictures, labels, _ = pair(torch.eye(2).view(2, 1, 1, 2), torch.tensor([3, 4]), np.array([[0, 1], [1, 1]]))
        >>> pictures.flatten(1).tolist(), labels[:, 3:5].tolist()
        ([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]], [[1.0, 1.0], [0.0, 1.0]])
    """
    places = torch.from_numpy(chosen)
    labels = torch.zeros(places.shape[1], 10).scatter_(1, classes[places].T, 1.0)
    return Split(torch.cat(list(images[places]), -1), labels)
