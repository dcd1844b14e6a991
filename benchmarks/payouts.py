"""Each payout of training-time rewards on the same trained models: what it pays, and how far from what is deserved.

Usage: python -m benchmarks.payouts [FOLDER ...]

FOLDER holds runs that were paid by ``AequaTraining``, such as those of ``python -m benchmarks.training_time``, which
is the default. Nothing is trained or evaluated: the widths are chosen again from the accuracies in each
``allocation.json``. So all figures are of the validation part, which decides; means over the runs, in points, but for
Pearson's coefficient.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aequa_lightning.mechanisms import AequaTraining
from aequa_lightning.rewards.allocation.deserved import ROUNDINGS

FOLDER = Path("runs/training-time")

PAYOUTS = {
    "no_better, not individually rational": AequaTraining(individually_rational=False),
    "no_better": AequaTraining(),
    "nearest": AequaTraining(payout="nearest"),
    "exact": AequaTraining(payout="exact"),
}


def paid(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield each ``allocation.json`` below a folder whose widths were paid by what is deserved."""
    for path in sorted(folder.rglob("allocation.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["objective"] in ROUNDINGS and all(row["gain"] is not None for row in content["participants"]):
            yield content


def figures(content: Mapping[str, Any], mechanism: AequaTraining) -> tuple[float, ...]:
    """Return Pearson, mean gain, spread, least gain, how many lose, and the largest distance from what is deserved."""
    rows = content["participants"]
    standalone = [row["accuracy"] - row["gain"] for row in rows]
    curve = {float(width): accuracy for width, accuracy in content["accuracy_by_width"].items()}
    told = mechanism.allocate(standalone, curve, standalone=standalone, held=[1.0] * len(rows))
    reference = max(curve[max(curve)], *standalone)
    deserved = reference - told.slope * (max(standalone) - np.array(standalone))
    gap = np.abs(told.accuracies - deserved.clip(told.curve.accuracies[0], told.curve.accuracies[-1])).max()
    losing = float((told.accuracies < np.array(standalone) - 1e-9).sum())
    points = (100 * told.mcg, 100 * told.cgs, 100 * told.minimum_gain, losing, 100 * float(gap))
    return (np.nan if told.pearson is None else told.pearson, *points)


def main() -> None:
    """Print a row for each payout."""
    folders = [Path(word) for word in sys.argv[1:]] or [FOLDER]
    runs = [content for folder in folders for content in paid(folder)]
    if not runs:
        raise SystemExit(f"no run below {', '.join(map(str, folders))} was paid by AequaTraining.")
    print(f"{len(runs)} runs\n")
    print("| payout | Pearson | mean gain | spread | least gain | who lose | largest gap |")
    print("|---|---|---|---|---|---|---|")
    for name, mechanism in PAYOUTS.items():
        means = np.nanmean([figures(content, mechanism) for content in runs], axis=0)
        print(f"| {name} | {means[0]:.3f} |", " | ".join(f"{value:.1f}" for value in means[1:]), "|")


if __name__ == "__main__":
    main()
