"""An own network, as it is, and what its narrow sub-networks are. Run it with ``python examples/own_network.py``."""

from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from aequa_lightning import CollaborativeTrainer, SlimmableClassifier
from aequa_lightning.data import DigitsData, Dirichlet
from aequa_lightning.mechanisms import Aequa


class Residual(nn.Module):
    """Two convolutions and a short cut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        return torch.relu(x + self.norm(self.second(torch.relu(self.first(x)))))


def build(num_classes: int, input_shape: tuple[int, ...], channels: int = 16) -> nn.Module:
    """Return the full network; this is all that the project asks of it."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], channels, 3, padding=1),
        Residual(channels),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * channels, num_classes),
    )


def main(run_dir: Path = Path("runs/own-network"), rounds: int = 10) -> None:
    """Train four participants and open what one of them receives.

    Args:
        run_dir: The run folder.
        rounds: Rounds of training and averaging.
    """
    data = DigitsData(participants=4, partition=Dirichlet(0.5))
    # On the command line: --model.backbone=own_network:build --model.backbone_options={channels: 24}
    model = SlimmableClassifier(
        data.num_classes,
        data.input_shape,
        backbone="own_network:build",
        backbone_options={"channels": 24},
        widths=[1.0, 0.75, 0.5, 0.25],
    )
    print(model.network.describe())
    trainer = CollaborativeTrainer(
        accelerator="cpu", devices=1, max_rounds=rounds, mechanism=Aequa(resolution=0.02), run_dir=str(run_dir)
    )
    trainer.fit(model, data)
    # The owner of a reward needs torch alone.
    program = torch.export.load(run_dir / "rewards" / "participant-00.pt2").module()
    inputs, classes = data.test().tensors
    print(f"participant-00: {(program(inputs).argmax(-1) == classes).float().mean():.1%} on the test part")


if __name__ == "__main__":
    auto_cli(main)
