"""One participant's NaN is counted and reported, and never averaged."""

from pathlib import Path

import pytest
import torch

from aequa_lightning.data import DigitsData
from aequa_lightning.mechanisms import SharedModel
from aequa_lightning.trainer import CollaborativeTrainer
from aequa_lightning.training import SlimmableClassifier
from tests.helpers.command import events

pytestmark = pytest.mark.fault


class Poisoned(DigitsData):
    def participant(self, number: int) -> torch.utils.data.TensorDataset:
        inputs, targets = super().participant(number).tensors
        return torch.utils.data.TensorDataset(inputs * float("nan") if number == 1 else inputs, targets)


def _run(data: DigitsData, run_dir: Path) -> Path:
    torch.manual_seed(0)
    model = SlimmableClassifier(10, (1, 8, 8), backbone="mlp", widths=[1.0, 0.5])
    options = {"accelerator": "cpu", "devices": 1, "max_rounds": 2, "mechanism": SharedModel()}
    CollaborativeTrainer(run_dir=str(run_dir), **options).fit(model, data)  # type: ignore[arg-type]
    return run_dir


def test_the_poisoned_update_is_left_out(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="participant-01 are not finite"):
        poisoned = _run(Poisoned(participants=3, train_samples=300), tmp_path / "poisoned")
    assert [event["rejected"] for event in events(poisoned, "round")] == [["participant-01"]] * 2
    parameters = torch.load(poisoned / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in parameters.values())
    assert events(poisoned, "round")[-1]["validation_accuracy"]["1"] > 0.3
