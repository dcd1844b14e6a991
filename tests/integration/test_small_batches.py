"""Single samples, which a batch norm over features cannot normalise, end no run."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch import nn

from aequa_lightning import CollaborativeTrainer, SlimmableClassifier
from aequa_lightning.data import NpzData, Partition
from aequa_lightning.data.partition import IntArray, Samples
from aequa_lightning.errors import InputError


def normed(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    features = math.prod(input_shape)
    return nn.Sequential(nn.Linear(features, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_classes))


@dataclass(frozen=True)
class Sizes(Partition):
    """Gives every participant but the last a number of samples."""

    sizes: tuple[int, ...]

    def assign(self, samples: Samples, participants: int, seed: int, *, min_samples: int) -> list[IntArray]:
        order = np.random.default_rng(seed).permutation(len(samples.labels))
        return [np.sort(part) for part in np.split(order, np.cumsum(self.sizes))]


def blobs(path: Path, samples: int, **options: object) -> NpzData:
    random = np.random.default_rng(0)
    y, tested = np.arange(samples) % 3, np.arange(501) % 3
    eye = 2 * np.eye(3, 8)
    np.savez(
        path / "blobs.npz",
        x_train=random.normal(size=(samples, 8)) + eye[y],
        y_train=y,
        x_test=random.normal(size=(501, 8)) + eye[tested],
        y_test=tested,
    )
    return NpzData(str(path / "blobs.npz"), **options)


def model_for(data: NpzData, **options: object) -> SlimmableClassifier:
    torch.manual_seed(0)
    return SlimmableClassifier(3, data.input_shape, backbone=f"{__name__}:normed", widths=(1.0, 0.5), **options)


@pytest.mark.parametrize("stacking", ["off", 2])
@pytest.mark.parametrize("norm", ["shared", "static"])
def test_a_participant_with_one_sample_trains_and_is_paid(tmp_path: Path, norm: str, stacking: str | int) -> None:
    data = blobs(tmp_path, 2505, participants=4, batch_size=50, partition=Sizes((1, 501, 51)), min_samples=1)
    assert len(data.validation()) == 501
    trainer = CollaborativeTrainer(
        accelerator="cpu", devices=1, max_rounds=2, run_dir=tmp_path / "run", report=False, stacking=stacking
    )
    trainer.fit(model_for(data, norm=norm), data)
    assert len(list((tmp_path / "run" / "rewards").glob("*.ckpt"))) == 4
    trainer.test(model_for(data, norm=norm), data, ckpt_path="last")


def test_batches_of_one_are_refused_where_a_norm_needs_two(tmp_path: Path) -> None:
    data = blobs(tmp_path, 200, participants=2, batch_size=1)
    trainer = CollaborativeTrainer(accelerator="cpu", devices=1, max_rounds=1, run_dir=tmp_path / "run", report=False)
    with pytest.raises(InputError, match=r"data\.batch_size=1"):
        trainer.fit(model_for(data), data)


def test_a_plain_trainer_leaves_out_a_batch_of_one(tmp_path: Path) -> None:
    data = blobs(tmp_path, 165, participants=2, batch_size=33)
    model = model_for(data)
    trainer = Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    for data.batch_size in (131, 32):  # one sample is left over in training, then in validation
        trainer.fit(model, data)
