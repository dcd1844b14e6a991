"""The demonstration over several seeds: how fair it is, and what it costs in accuracy.

Usage: python -m benchmarks.demonstration [RUN_DIR ...] [--output FILE]

Each RUN_DIR is a finished run of ``configs/digits.yaml``, one a seed:

    aequa fit --config configs/digits.yaml --seed_everything N --trainer.run_dir runs/digits-N

Trains the same network on the pooled data of each run (see ``benchmarks.against_pooled``), writes a row a run into the
file, and prints mean and standard deviation of every column as a Markdown table.
"""

import argparse
import csv
import json
import statistics
from pathlib import Path

import yaml

from benchmarks.against_pooled import pooled_accuracy

OUTPUT = Path(__file__).parents[1] / "docs" / "results" / "digits.csv"
# Titles, and the factor from accuracies to percent or points.
COLUMNS = {
    "standalone_test_least": ("standalone, worst, test", 100),
    "standalone_test_mean": ("standalone, mean, test", 100),
    "standalone_test_most": ("standalone, best, test", 100),
    "full_width_test": ("full width, test", 100),
    "pooled_test": ("same network on the pooled data, test", 100),
    "pearson": ("Pearson", 1),
    "pearson_test": ("Pearson, test", 1),
    "mcg": ("mean gain (MCG), points", 100),
    "cgs": ("spread (CGS), points", 100),
    "minimum_gain": ("least gain, points", 100),
}


def row(run_dir: Path) -> dict[str, float]:
    """Return the seed of a finished run and its figures, accuracies in [0, 1]."""
    allocation = json.loads((run_dir / "allocation.json").read_text())
    seed = yaml.safe_load((run_dir / "config.yaml").read_text())["seed_everything"]
    alone = [person["standalone_test"] for person in allocation["participants"]]
    full = [person["test_accuracy"] for person in allocation["participants"] if person["width"] == 1.0]
    return {
        "seed": seed,
        "standalone_test_least": min(alone),
        "standalone_test_mean": statistics.fmean(alone),
        "standalone_test_most": max(alone),
        "full_width_test": full[0],
        "pooled_test": pooled_accuracy(run_dir),
        **{key: allocation[key] for key in ("pearson", "pearson_test", "mcg", "cgs", "minimum_gain")},
    }


def table(rows: list[dict[str, float]]) -> str:
    """Return mean and standard deviation of every column as a Markdown table."""
    lines = ["| | mean | deviation |", "|---|---|---|"]
    for key, (title, factor) in COLUMNS.items():
        values, digits = [factor * float(one[key]) for one in rows], 3 if factor == 1 else 1
        lines.append(f"| {title} | {statistics.fmean(values):.{digits}f} | {statistics.stdev(values):.{digits}f} |")
    return "\n".join(lines)


def main() -> None:
    """Write the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    rows = [row(run_dir) for run_dir in options.run_dirs]
    with options.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: round(value, 6) for key, value in one.items()} for one in rows)
    print(table(rows))


if __name__ == "__main__":
    main()
