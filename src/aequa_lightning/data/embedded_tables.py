"""Tables of scikit-learn, which need no download: one with classes, one with numbers to predict."""

import numpy as np
import torch

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.data.preparation import stratified_split
from aequa_lightning.data.target_kinds import strata


class BreastCancerData(CollaborativeData):
    """569 tumours by 30 measures of their cells, malignant or benign (Wolberg et al., UCI repository, 1995).

    The test part is a fifth of each class, drawn with seed 0, whatever the ``partition_seed``.
    """

    num_classes = 2
    classes = ("malignant", "benign")
    input_shape = (30,)

    def load(self) -> tuple[Split, Split]:
        """Return 456 training and 113 test samples."""
        from sklearn.datasets import load_breast_cancer  # takes a second

        table, labels = load_breast_cancer(return_X_y=True)
        inputs, targets = torch.tensor(table, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
        test, train = stratified_split(labels, 0.2, seed=0)
        return Split(inputs[train], targets[train]), Split(inputs[test], targets[test])


class DiabetesData(CollaborativeData):
    """442 patients by 10 measures, and how far their diabetes has progressed after a year (Efron et al., 2004).

    The progress, 25 to 346, is divided by 100. The test part is a fifth of each quarter of it, drawn with seed 0,
    whatever the ``partition_seed``.
    """

    num_classes = 1
    target_kind = "numbers"
    input_shape = (10,)

    def load(self) -> tuple[Split, Split]:
        """Return 354 training and 88 test samples."""
        from sklearn.datasets import load_diabetes  # takes a second

        table, progress = load_diabetes(return_X_y=True)
        inputs = torch.tensor(table, dtype=torch.float32)
        targets = torch.tensor(np.asarray(progress) / 100, dtype=torch.float32)
        test, train = stratified_split(strata(targets, "numbers"), 0.2, seed=0)
        return Split(inputs[train], targets[train]), Split(inputs[test], targets[test])
