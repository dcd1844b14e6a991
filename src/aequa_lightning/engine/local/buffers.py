"""A model's buffers: saved, restored, and guarded against changes during training."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from aequa_lightning.errors import InputError
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.slimmable import norm

# Prefix of the names of the full network's buffers in the classifier.
FULL = "network.full."


def buffers(classifier: SlimmableModule) -> dict[str, Tensor]:
    """Return all buffers of a model except statistics of norm layers, persistent or not, by name; not copied."""
    statistics = {f"{FULL}{name}" for name in norm.statistics(classifier.network.full)}
    return {
        name: buffer
        for name, buffer in classifier.named_buffers()
        if name not in statistics and not name.startswith("network.statistics.")
    }


@torch.no_grad()
def load_buffers(classifier: SlimmableModule, saved: Mapping[str, Tensor]) -> None:
    """Copy saved buffers into a model.

    Args:
        classifier: The model.
        saved: Result of :func:`buffers`; a buffer that is missing in it keeps its value.

    Raises:
        InputError: A buffer has another shape.
    """
    for name, buffer in buffers(classifier).items():
        value = saved.get(name, buffer)
        if value.shape != buffer.shape:
            raise InputError(
                f"ckpt_path does not fit the model: buffer {name} has shape {tuple(value.shape)} in the file, but "
                f"{tuple(buffer.shape)} in the model; use the run's own config.yaml."
            )
        if value is not buffer:
            buffer.copy_(value)


def equal_tensors(one: Tensor, other: Tensor) -> bool:
    """Return whether shape, type and all entries of two tensors are equal; NaN equals NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(torch.equal(one, other) or ((one == other) | ((one != one) & (other != other))).all())


class _SavedBuffer(NamedTuple):
    """A buffer as it was before training.

    Attributes:
        name: Name in the model.
        store: The dictionary of buffers of the module that owns it.
        key: Its key in ``store``.
        tensor: The buffer itself.
        version: Its version counter, which every write in place increments.
        value: A copy.
    """

    name: str
    store: dict[str, Tensor | None]
    key: str
    tensor: Tensor
    version: int
    value: Tensor


class BufferGuard:
    """Checks after each participant's training that no buffer has changed.

    :func:`~aequa_lightning.engine.local.model_checks.check_state` runs few steps; some buffers change only after more.
    Version counters are compared first, so that a check without changes is cheap.

    Args:
        classifier: The model, with the buffers that all participants start from.
    """

    def __init__(self, classifier: SlimmableModule) -> None:
        self._saved: list[_SavedBuffer] = []
        parts = dict(classifier.named_modules())
        for name, buffer in buffers(classifier).items():
            place, _, key = name.rpartition(".")
            self._saved.append(_SavedBuffer(name, parts[place]._buffers, key, buffer, buffer._version, buffer.clone()))

    def check(self) -> None:
        """Compare all buffers with the saved ones.

        Raises:
            InputError: A buffer has changed.
        """
        for place, saved in enumerate(self._saved):
            now = saved.store.get(saved.key)
            if now is saved.tensor and now._version == saved.version:
                continue
            if now is None or not equal_tensors(now, saved.value):
                raise InputError(
                    f"model.backbone: training has changed buffer {saved.name.removeprefix(FULL)}, which is not part "
                    "of updates, checkpoints or rewards; make it a parameter or a constant."
                )
            self._saved[place] = saved._replace(tensor=now, version=now._version)
