"""A LightningModule that was written for plain Lightning, trained by ten participants: segmentation of drawn shapes.

Usage: python examples/own_module.py [--run_dir DIR] [--rounds N]
"""

import argparse

import torch
from lightning import LightningModule
from torch import nn
from torch.nn import functional

from aequa_lightning import CollaborativeTrainer
from aequa_lightning.data.shapes import ShapesData
from aequa_lightning.modules import slimmable


class Segmenter(LightningModule):
    """Nothing here knows of widths or of participants."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 32, 5, padding=2), nn.ReLU()),
            nn.Conv2d(32, 4, 1),
        )

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: D102
        images, classes = batch
        loss = functional.cross_entropy(self.net(images), classes)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:  # noqa: D102
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def pixels_right(outputs: torch.Tensor, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the share of pixels of each picture whose class is right."""
    return (outputs.argmax(1) == batch[1]).float().mean((1, 2))


def main() -> None:
    """Train, and print what each width reaches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", default="runs/own-module")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    torch.manual_seed(0)
    module = slimmable(Segmenter(), network="net", example_input=torch.zeros(1, 1, 16, 16), score=pixels_right)
    trainer = CollaborativeTrainer(accelerator="cpu", devices=1, max_rounds=options.rounds, run_dir=options.run_dir)
    print(trainer.fit(module, ShapesData(participants=10)).allocation["accuracy_by_width"])


if __name__ == "__main__":
    main()
