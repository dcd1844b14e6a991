"""The handwritten digits of scikit-learn, which need no download."""

import torch

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.data.preparation import stratified_split


class DigitsData(CollaborativeData):
    """The 1,797 digits of 8 x 8 pixels in scikit-learn (Alpaydin and Kaynak, UCI repository, 1998).

    The data set has no official split. Here the test part is always a fifth of every class, drawn with seed 0 (359
    samples; 1,438 are left for training), whatever the ``partition_seed``. Grey levels 0..16 are scaled to 0..1.
    """

    num_classes = 10
    input_shape = (1, 8, 8)

    def load(self) -> tuple[Split, Split]:
        """Return 1,438 training and 359 test samples."""
        from sklearn.datasets import load_digits  # takes a second

        pixels, labels = load_digits(return_X_y=True)
        inputs = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
        targets = torch.tensor(labels, dtype=torch.int64)
        test, train = stratified_split(labels, 0.2, seed=0)
        return Split(inputs[train], targets[train]), Split(inputs[test], targets[test])
