"""A reward under Lightning's own Trainer: tested, used for predictions, trained further on its owner's data."""

from pathlib import Path

import pytest
import torch
from lightning import Trainer

from aequa_lightning.data import DigitsData
from aequa_lightning.modules import RewardClassifier
from tests.helpers.command import fit

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]


def test_a_reward_is_tested_predicts_and_is_trained_further(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = fit(tmp_path / "run", rounds=1) / "rewards" / "participant-00.ckpt"
    reward = RewardClassifier.load_from_checkpoint(file)
    data = DigitsData(participants=4, train_samples=500)
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=2, enable_checkpointing=False, **options)  # type: ignore[arg-type]
    (before,) = trainer.test(reward, datamodule=data, verbose=False)
    probabilities = trainer.predict(reward, datamodule=data)
    assert probabilities is not None
    table = torch.cat([batch for batch in probabilities if isinstance(batch, torch.Tensor)])
    targets = data.test().tensors[1]
    assert before["test_accuracy"] == pytest.approx((table.argmax(-1) == targets).double().mean().item())
    torch.testing.assert_close(table.sum(-1), torch.ones(len(table)))
    trainer.fit(reward, datamodule=data)
    (after,) = trainer.test(reward, datamodule=data, verbose=False)
    assert after["test_accuracy"] > before["test_accuracy"]
