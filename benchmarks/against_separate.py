"""One slimmable network against separately trained networks of the same widths, for equal epochs.

Usage: python -m benchmarks.against_separate [--npz FILE] [--train_samples N] [--epochs E] [--seeds S] [--lr L]
    [--network cnn|cnn3] [--cosine] [--full_width_loss_weight W] [--smallest_width_loss_weight N] [--distillation D]

Trains a network by the sandwich rule over widths 1, .75, .5 and .25, and each of those widths alone with the same
optimizer, learning rates, batches and number of epochs; prints the test accuracy of both per width, mean and standard
deviation over the seeds. The data are Fashion-MNIST (Debian's package) or the arrays of a file. The networks are the
paper's CNN, and three convolutions of 32, 64 and 128 channels with batch norm. The shared network's loss is the mean
over widths, or what the package offers beyond it: larger shares of the two ends, in-place distillation.
"""

import argparse
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from aequa_lightning.backbones import build_backbone
from aequa_lightning.data import CollaborativeData, FashionMNISTData, NpzData
from aequa_lightning.engine.evaluation import AtWidth, score_of
from aequa_lightning.engine.local.work import LocalWork, batches
from aequa_lightning.modules.classifier import Classification
from aequa_lightning.slimmable import Distillation, SandwichRule, SlimmableModel, sandwich_step

WIDTHS = (1.0, 0.75, 0.5, 0.25)
BATCH_SIZE = 64
NETWORKS: dict[str, dict[str, Any]] = {"cnn": {}, "cnn3": {"channels": 32}}


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how: the first four on both sides, the rest for the shared network, as in the package.

    Attributes:
        network: A key of ``NETWORKS``.
        epochs: Passes over the data.
        lr: First learning rate of Adam.
        cosine: Whether it falls to zero along a cosine; else it stays.
        full_width_loss_weight: The widest width's share of a step's loss; None: that of the others.
        smallest_width_loss_weight: The narrowest width's.
        distillation: Share of the narrow widths' loss that is taught by the widest's outputs.
    """

    network: str
    epochs: int
    lr: float
    cosine: bool
    full_width_loss_weight: float | None
    smallest_width_loss_weight: float | None
    distillation: float


def train(
    model: SlimmableModel, widths: tuple[float, ...], inputs: Tensor, targets: Tensor, *, recipe: Recipe, seed: int
) -> None:
    """Train the given widths of a model together, in place, and compute their norm statistics at the end."""
    work = LocalWork(recipe.epochs)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    scheduler = CosineAnnealingLR(optimizer, work.count(len(targets), BATCH_SIZE)) if recipe.cosine else None
    rule = SandwichRule(
        full_width_loss_weight=recipe.full_width_loss_weight,
        smallest_width_loss_weight=recipe.smallest_width_loss_weight,
        distillation=Distillation(recipe.distillation) if recipe.distillation else None,
    )
    model.train()
    for batch in batches(len(targets), work, BATCH_SIZE, seed=seed):
        optimizer.zero_grad()
        sandwich_step(model, inputs[batch], targets[batch], widths, rule=rule)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    model.recalibrate(inputs.split(BATCH_SIZE))


def compare(seed: int, data: CollaborativeData, *, recipe: Recipe) -> dict[float, tuple[float, float]]:
    """Return test accuracy of each width: in the shared network, and trained alone."""
    torch.set_num_threads(1)
    inputs, targets = data.pooled().tensors
    test, example = data.test(), torch.zeros(1, *data.input_shape)

    def accuracy(network: nn.Module) -> float:
        return score_of(Classification(), network, test, device=torch.device("cpu")).value

    def fresh() -> SlimmableModel:
        torch.manual_seed(seed)
        sizes = {"num_classes": data.num_classes, "input_shape": data.input_shape}
        full = build_backbone(recipe.network, **sizes, **NETWORKS[recipe.network])
        return SlimmableModel(full, WIDTHS, example)

    shared = fresh()
    train(shared, WIDTHS, inputs, targets, recipe=recipe, seed=seed)
    results = {}
    for width in WIDTHS:
        alone = SlimmableModel(_initialised(fresh(), width), (1.0,), example)
        train(alone, (1.0,), inputs, targets, recipe=recipe, seed=seed)
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
    parser.add_argument("--network", choices=NETWORKS, default="cnn")
    parser.add_argument("--cosine", action="store_true", help="let the learning rate fall to zero, on both sides")
    parser.add_argument("--full_width_loss_weight", type=float, help="in (0, 1)")
    parser.add_argument("--smallest_width_loss_weight", type=float, help="in (0, 1)")
    parser.add_argument("--distillation", type=float, default=0.0, help="share of the others' loss that it teaches")
    options = parser.parse_args()
    sizes = {"participants": 1, "train_samples": options.train_samples}
    data = NpzData(str(options.npz), **sizes) if options.npz else FashionMNISTData(**sizes)
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        runs = list(pool.map(partial(compare, data=data, recipe=recipe), range(options.seeds)))
    print(f"{type(data).__name__}, {len(data.pooled())} samples, {options.seeds} seeds, {recipe}")
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
