"""Fairness of rewards on digits with and without widths whose layers differ.

Usage: python -m benchmarks.filling_gaps [SEEDS]

Runs ``configs/digits.yaml`` with its network and with one of a quarter of the channels, whose widths are coarser, once
for each seed, each with its own partition. Filling takes no width off the offer, so one run serves both columns: it is
allocated with all that is on offer, and again with the widths of all layers alone. Decided on the validation part.
"""

import contextlib
import json
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from aequa_lightning.__main__ import main
from aequa_lightning.run_folder.files import write_json

CONFIG = Path(__file__).parents[1] / "configs" / "digits.yaml"
NETWORKS = {"16-32-64 channels": 16, "4-8-16 channels": 4}
FIGURES = ("pearson", "pearson_test", "cgs", "mcg")


def run(*words: str) -> None:
    """Run ``aequa`` without its output."""
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        assert main(words) == 0, words


def figures(run_dir: Path) -> list[float]:
    """Return accuracies on offer, those of them by layer that are paid, and how fair the allocation is."""
    content = json.loads((run_dir / "allocation.json").read_text())
    paid = sum("layers" in person for person in content["participants"])
    return [len(content["widths"]), paid, *(content[key] for key in FIGURES)]


def both(folder: Path, seed: int, channels: int) -> tuple[list[float], list[float]]:
    """Return the figures of one run without filling and with it."""
    seeds = ("--seed_everything", str(seed), "--data.partition_seed", str(seed))
    network = ("--model.backbone_options", f"{{channels: {channels}}}")
    lean = ("--trainer.report", "false", "--trainer.export_programs", "false", "--trainer.run_dir", str(folder))
    mechanism = ("--trainer.mechanism", "Aequa", "--trainer.mechanism.per_layer_widths", "true")
    run("fit", "--config", str(CONFIG), *seeds, *network, *lean, *mechanism)
    filled = figures(folder)
    content = json.loads((folder / "allocation.json").read_text())
    for number in content["layers"]:
        del content["accuracy_by_width"][number]
    write_json(folder / "allocation.json", content | {"layers": {}})
    run("allocate", "--run_dir", str(folder))
    return figures(folder), filled


def compare(seeds: int) -> None:
    """Print the table."""
    print("| network | gaps | accuracies on offer | paid by layer | Pearson | Pearson, test | CGS | MCG |")
    print("|---|---|---|---|---|---|---|---|")
    for name, channels in NETWORKS.items():
        rows = defaultdict(list)
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                pair = both(Path(folder) / "run", seed, channels)
            for gaps, row in zip(("kept", "filled"), pair, strict=True):
                rows[gaps].append(row)
                print(f"{name}, seed {seed}, {gaps}: {row}", file=sys.stderr, flush=True)
        for gaps, found in rows.items():
            widths, paid, pearson, tested, spread, gain = np.mean(found, axis=0)
            print(
                f"| {name} | {gaps} | {widths:.1f} | {paid:.1f} | {pearson:.4f} | {tested:.4f} "
                f"| {100 * spread:.2f} | {100 * gain:.2f} |"
            )
    print(f"\nMeans of {seeds} seeds, gains in points; `paid by layer`: participants of ten.")


if __name__ == "__main__":
    compare(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
