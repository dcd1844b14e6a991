"""ParticipantData: the samples of one participant, on its own machine."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from typing_extensions import override

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.npz import NpzData
from aequa_lightning.errors import InputError


class ParticipantData(NpzData):
    """One participant's own samples: ``x_train`` and ``y_train``, and ``x_test`` and ``y_test``, held out at home.

    All of the training part is trained on. Numbers of classes and the scale of inputs are the federation's, which the
    server tells.

    Args:
        path: The ``.npz`` file; see :class:`~aequa_lightning.data.NpzData`.
        classes_told: Number of classes.
        mean: Mean of each channel or feature that inputs are normalised by; null for token numbers.
        std: Standard deviation, likewise.
        batch_size: Samples in a batch.

    Raises:
        InputError: The file cannot be used, or holds other classes.
    """

    def __init__(
        self,
        path: str,
        *,
        classes_told: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        batch_size: int = 32,
    ) -> None:
        self._classes_told = classes_told
        super().__init__(path, participants=1, min_samples=1, batch_size=batch_size)
        self.mean = None if mean is None else tuple(mean)
        self.std = None if std is None else tuple(std)

    @override
    def load(self) -> tuple[Split, Split, Split]:
        train, held_out = super().load()  # type: ignore[misc]
        return train, held_out, held_out

    @override
    def _count_classes(self, labels: dict[str, npt.NDArray[Any]]) -> int:
        for name, values in labels.items():
            if len(values) and not 0 <= int(values.min()) <= int(values.max()) < self._classes_told:
                raise InputError(
                    f"data.path {self.path}: {name} holds classes from {values.min()} to {values.max()}, but the "
                    f"federation has {self._classes_told}: 0 to {self._classes_told - 1}"
                )
        return self._classes_told

    def samples(self) -> tuple[Tensor, Tensor]:
        """Return inputs and classes of the training part."""
        inputs, targets = self.pooled().tensors
        return inputs, targets

    def digest(self) -> str:
        """Return the SHA-256 of the training samples, hexadecimal."""
        found = hashlib.sha256()
        for tensor in self.pooled().tensors:
            found.update(np.ascontiguousarray(tensor.numpy()).tobytes())
        return found.hexdigest()
