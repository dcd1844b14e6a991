"""Own data in an ``.npz`` file: table rows here, images work alike. Run it with ``python examples/own_data.py``."""

from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from aequa_lightning import CollaborativeTrainer, SlimmableClassifier
from aequa_lightning.data import NpzData, QuantityImbalance
from aequa_lightning.mechanisms import Aequa


def write_data(path: Path) -> None:
    """Write four arrays: inputs (samples, features) or images (samples, height, width[, channels]), and classes."""
    inputs, classes = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(inputs, classes, test_size=0.25, random_state=0)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def main(run_dir: Path = Path("runs/own-data"), rounds: int = 10) -> None:
    """Train six clinics, one of which holds 40 % of every class.

    Args:
        run_dir: The run folder.
        rounds: Rounds of training and averaging.
    """
    path = run_dir.with_suffix(".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_data(path)
    data = NpzData(str(path), participants=6, partition=QuantityImbalance(share=0.4, owners=1), batch_size=16)
    model = SlimmableClassifier(data.num_classes, data.input_shape, backbone="mlp", widths=[1.0, 0.5, 0.25, 0.125])
    trainer = CollaborativeTrainer(
        accelerator="cpu", devices=1, max_rounds=rounds, mechanism=Aequa(resolution=0.01), run_dir=str(run_dir)
    )
    trainer.fit(model, data)


if __name__ == "__main__":
    auto_cli(main)
