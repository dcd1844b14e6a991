"""One slimmable network against separately trained networks of the same widths, for equal epochs.

Usage: python -m benchmarks.against_separate [--npz FILE] [--train_samples N] [--epochs E] [--seeds S] [--lr L]
    [--widest_share W] [--narrowest_share N]

Trains the paper's CNN by the sandwich rule over widths 1, .75, .5 and .25, and each of those widths alone with the
same optimizer, batches and number of epochs; prints the test accuracy of both per width, mean and standard deviation
over the seeds. The data are Fashion-MNIST (Debian's package) or the arrays of a file. The shared network's loss is the
mean over widths, or has larger shares of the two ends, as in the package.
"""

import argparse
import statistics
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aequa_lightning.backbones import build_backbone
from aequa_lightning.collaboration.evaluation import AtWidth, count_correct
from aequa_lightning.collaboration.local import LocalWork, batches
from aequa_lightning.data import CollaborativeData, FashionMNISTData, NpzData
from aequa_lightning.slimmable import SlimmableModel, sandwich_step

WIDTHS = (1.0, 0.75, 0.5, 0.25)


class Shares(NamedTuple):
    """Shares of the two ends in a step's loss; None: that of the others."""

    widest: float | None
    narrowest: float | None


def train(
    model: SlimmableModel,
    widths: tuple[float, ...],
    inputs: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    lr: float,
    seed: int,
    shares: Shares,
) -> None:
    """Train the given widths of a model together, in place."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for batch in batches(len(targets), LocalWork(epochs), 64, seed=seed):
        optimizer.zero_grad()
        sandwich_step(
            model,
            inputs[batch],
            targets[batch],
            widths,
            widest_share=shares.widest,
            narrowest_share=shares.narrowest,
        )
        optimizer.step()


def compare(
    data: CollaborativeData, *, epochs: int, lr: float, seed: int, shares: Shares
) -> dict[float, tuple[float, float]]:
    """Return test accuracy of each width: in the shared network, and trained alone."""
    inputs, targets = data.pooled().tensors
    test, example = data.test(), torch.zeros(1, *data.input_shape)

    def accuracy(network: nn.Module) -> float:
        return count_correct(network, test, device=torch.device("cpu")) / len(test)

    def fresh() -> SlimmableModel:
        torch.manual_seed(seed)
        full = build_backbone("cnn", num_classes=data.num_classes, input_shape=data.input_shape)
        return SlimmableModel(full, WIDTHS, example)

    shared = fresh()
    train(shared, WIDTHS, inputs, targets, epochs=epochs, lr=lr, seed=seed, shares=shares)
    results = {}
    for width in WIDTHS:
        alone = SlimmableModel(_initialised(fresh(), width), (1.0,), example)
        train(alone, (1.0,), inputs, targets, epochs=epochs, lr=lr, seed=seed, shares=shares)
        results[width] = accuracy(AtWidth(shared, width)), accuracy(alone)
    return results


def _initialised(model: SlimmableModel, width: float) -> nn.Module:
    """Return the narrow network as its user would make it: with the initial values of its own size."""
    network = model.extract(width, fresh_statistics=True)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
    return network


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--npz", type=Path)
    parser.add_argument("--train_samples", type=int)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of Adam, for both sides")
    parser.add_argument("--widest_share", type=float, help="its share of the shared network's loss, in (0, 1)")
    parser.add_argument("--narrowest_share", type=float, help="its share of the shared network's loss, in (0, 1)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"participants": 1, "train_samples": options.train_samples}
    data = NpzData(str(options.npz), **sizes) if options.npz else FashionMNISTData(**sizes)
    shares = Shares(options.widest_share, options.narrowest_share)
    runs = [
        compare(data, epochs=options.epochs, lr=options.lr, seed=seed, shares=shares) for seed in range(options.seeds)
    ]
    print(
        f"{type(data).__name__}, {len(data.pooled())} samples, {options.epochs} epochs, {options.seeds} seeds, "
        f"learning rate {options.lr:g}, {shares}"
    )
    print("| width | shared | alone | difference |")
    print("|---|---|---|---|")
    for width in WIDTHS:
        shared, alone = zip(*(run[width] for run in runs), strict=True)
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in (shared, alone)]
        means = statistics.mean(shared), statistics.mean(alone)
        print(
            f"| {width:g} | {means[0]:.4f} ± {spread[0]:.4f} | {means[1]:.4f} ± {spread[1]:.4f} "
            f"| {means[0] - means[1]:+.4f} |"
        )


if __name__ == "__main__":
    main()
