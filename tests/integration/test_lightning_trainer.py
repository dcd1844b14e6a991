"""The same module under a plain Lightning Trainer: the centralised reference."""

from pathlib import Path

import pytest
import torch
from lightning import Trainer

from aequa_lightning.data import DigitsData
from aequa_lightning.modules.classifier import SlimmableClassifier

pytestmark = [
    # A hint about loading speed; the data are tensors in memory.
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    # Lightning's own use of torch (https://github.com/Lightning-AI/pytorch-lightning/issues/21746).
    pytest.mark.filterwarnings("ignore:`broadcast_buffers` is deprecated"),
    pytest.mark.filterwarnings("ignore:It is recommended to use `self.log"),
]

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def _trained(folder: Path, **options: object) -> tuple[Trainer, SlimmableClassifier, DigitsData]:
    torch.manual_seed(0)
    data = DigitsData(participants=1)
    model = SlimmableClassifier(10, (1, 8, 8), backbone="cnn3", widths=[1.0, 0.5, 0.25])
    trainer = Trainer(max_epochs=4, default_root_dir=folder, **QUIET, **options)  # type: ignore[arg-type]
    trainer.fit(model, datamodule=data)
    return trainer, model, data


def test_every_width_learns_and_the_checkpoint_tells_the_same(tmp_path: Path) -> None:
    trainer, _, data = _trained(tmp_path, devices=1)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert metrics["validation_accuracy/1"] > 0.85
    assert metrics["validation_accuracy/0.25"] > 0.5
    assert trainer.checkpoint_callback is not None
    loaded = SlimmableClassifier.load_from_checkpoint(trainer.checkpoint_callback.best_model_path, weights_only=True)
    (again,) = trainer.validate(loaded, datamodule=data, verbose=False)
    assert again["validation_accuracy/0.5"] == pytest.approx(metrics["validation_accuracy/0.5"])


@pytest.mark.distributed
def test_two_processes(tmp_path: Path) -> None:
    trainer, model, data = _trained(tmp_path, devices=2, strategy="ddp_fork", enable_checkpointing=False)
    assert float(trainer.callback_metrics["validation_accuracy/1"]) > 0.7
    # The parent takes over the trained weights; with fresh statistics they classify every width.
    model.network.recalibrate([data.validation().tensors[0]], model.network.widths)
    model.eval()
    inputs, targets = data.test().tensors
    with torch.no_grad():
        assert (model(inputs, width=1.0).argmax(-1) == targets).float().mean() > 0.7
