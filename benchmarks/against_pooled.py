"""Accuracy of a run's full width against the same model trained on the pooled data.

Usage: python -m benchmarks.against_pooled RUN_DIR

Trains the run's model from its ``config.yaml`` by a plain Lightning Trainer on all participants' data, for as many
epochs as the run's participants had, with the same optimizer, and prints both test accuracies.
"""

import json
import sys
from pathlib import Path

import torch
import yaml
from lightning import Trainer

from aequa_lightning.cli.lightning_cli import AequaCLI
from aequa_lightning.engine.evaluation import AtWidth, input_batches, score_of


def pooled_accuracy(run_dir: Path) -> float:
    """Train a run's model on the pooled data and return its test accuracy at full width, in [0, 1]."""
    words = ["fit", "--config", str(run_dir / "config.yaml"), "--trainer.devices", "1"]
    cli = AequaCLI(words, execute=False)
    data, model = cli.datamodule, cli.model
    torch.set_num_threads(1)
    trainer = Trainer(
        max_epochs=epochs(run_dir),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    model.network.recalibrate(input_batches(model, data.validation(), torch.device("cpu")), [1.0])
    test = data.test()
    return score_of(model, AtWidth(model.network, 1.0), test, device=torch.device("cpu")).value


def epochs(run_dir: Path) -> int:
    """Return how often each participant of a run went through its data."""
    trainer = yaml.safe_load((run_dir / "config.yaml").read_text())["trainer"]
    return trainer["max_rounds"] * trainer["local_epochs"]


def main(run_dir: Path) -> None:
    """Train on the pooled data and print the comparison."""
    pooled = pooled_accuracy(run_dir)
    rewards = json.loads((run_dir / "rewards" / "manifest.json").read_text())["rewards"]
    full = [reward["test_accuracy"] for reward in rewards if reward["width"] == 1.0]
    print(f"pooled, {epochs(run_dir)} epochs: {pooled:.4f}")
    print(f"collaboration, full width: {full[0]:.4f}   gap {pooled - full[0]:+.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
