"""FEMNIST: handwritten characters with their writers, from the JSON files of LEAF."""

import json
from typing import Any

import numpy as np
import torch

from aequa_lightning.data.groups import Natural
from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.data.partition import Partition
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path

LAYOUT = (
    "expected are train/*.json and test/*.json as LEAF writes them (https://github.com/TalwalkarLab/leaf, data/femnist,"
    " preprocess.sh -s niid -t sample): users, num_samples and user_data, with x (784 numbers in 0..1) and y (0..61)"
)


class FEMNISTData(CollaborativeData):
    """Federated EMNIST, grey images of 28 x 28 pixels in 62 classes (Caldas et al., "LEAF", arXiv 1812.01097).

    Args:
        root: Folder that holds ``train`` and ``test`` with LEAF's JSON files.
        partition: By default every writer's characters stay together (`Natural`).
        **kwargs: See `CollaborativeData`.

    Raises:
        InputError: When files are missing or have another layout.
    """

    num_classes = 62
    input_shape = (1, 28, 28)

    def __init__(self, root: str, *, partition: Partition | None = None, **kwargs: Any) -> None:
        super().__init__(partition=partition or Natural(), **kwargs)
        self.root = user_path(root, "data.root")
        for part in ("train", "test"):
            if not any((self.root / part).glob("*.json")):
                raise InputError(f"data.root ({root}) holds no JSON files in {part}; {LAYOUT}")

    def load(self) -> tuple[Split, Split]:
        """Return the training and the test characters, uint8, with the number of each one's writer."""
        return self._read("train"), self._read("test")

    def _read(self, part: str) -> Split:
        images, targets, writers = [], [], []
        for path in sorted((self.root / part).glob("*.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                for user in content["users"]:
                    held = content["user_data"][user]
                    pixels = np.asarray(held["x"], dtype=np.float32).reshape(-1, *self.input_shape)
                    labels = np.asarray(held["y"], dtype=np.int64)
                    if len(labels) != len(pixels):
                        raise ValueError(f"writer {user} has {len(pixels)} images and {len(labels)} labels")
                    if not np.isin(labels, range(62)).all() or pixels.min(initial=0) < 0 or pixels.max(initial=0) > 1:
                        raise ValueError(f"writer {user} has a value out of range")
                    # LEAF's numbers are grey levels divided by 255, so uint8 holds them without loss.
                    images.append(np.rint(255 * pixels).astype(np.uint8))
                    targets.append(labels)
                    writers += [user] * len(labels)
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path} has another layout ({error}); {LAYOUT}") from error
        if not writers:
            raise InputError(f"data.root ({self.root}) holds no characters in {part}; {LAYOUT}")
        groups = np.unique(writers, return_inverse=True)[1]
        return Split(torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(targets)), groups)
