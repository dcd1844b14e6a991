"""Rewards in every round against allocation after training: accuracy and fairness.

Usage: python -m benchmarks.training_time [OPTIONS OF aequa sweep]

Runs ``configs/paper/training_time.yaml`` (what has finished does not run again) and prints two tables from the run
folders: means over the seeds of figures on the test part, of what each participant receives, with the correlation on
the validation part, which decides, beside them. The second table has a column for each rank of contribution: who ranks
first differs from seed to seed.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from aequa_lightning.__main__ import main as aequa
from aequa_lightning.run_folder.events import latest_rounds, read_events
from aequa_lightning.sweep.results import METRICS, Metric, metrics_of

CONFIG = Path(__file__).parents[1] / "configs" / "paper" / "training_time.yaml"
SWEEP, PARTICIPANTS = Path("runs/training-time"), 10

Cells = dict[tuple[str, str], dict[str, list[dict[str, Any]]]]
"""By setting and mechanism, the ``allocation.json`` of each seed, with the megabytes that were sent."""


def main() -> None:
    """Run what is left, then print the tables."""
    status = aequa(["sweep", "--config", str(CONFIG), f"--sweep_dir={SWEEP}", *sys.argv[1:]])
    cells = finished(SWEEP)
    print_figures(cells)
    print_participants(cells)
    raise SystemExit(status)


def finished(folder: Path) -> Cells:
    """Read the finished cells of a sweep."""
    cells: Cells = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("cells/*/*/*/*/*/result.json")):
        data, partition, _, mechanism, _ = path.parent.relative_to(folder / "cells").parts
        content = json.loads((path.parent / "allocation.json").read_text())
        rounds = latest_rounds(read_events(path.parent / "events.jsonl"))
        content["megabytes"] = sum(event["bytes_sent"] for event in rounds) / 1e6
        cells[data, partition][mechanism].append(content)
    return cells


def print_figures(cells: Cells) -> None:
    """Print a row for each setting and mechanism."""
    print_head("data, partition", "rewards", "seeds", *(metric.title for metric in METRICS), "sent, MB")
    for setting, mechanisms in cells.items():
        for mechanism, runs in mechanisms.items():
            figures = [metrics_of(run) for run in runs]
            row = [mean_of(metric, [figure[metric.key] for figure in figures]) for metric in METRICS]
            sent = np.mean([run["megabytes"] for run in runs])
            print_row(", ".join(setting), mechanism, str(len(runs)), *row, f"{sent:.1f}")


def mean_of(metric: Metric, values: list[float | None]) -> str:
    """Return the mean of those values that are defined, for a table: a correlation with equal rewards is not."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known) * metric.scale:.{metric.digits}f}" if known else "–"


def print_participants(cells: Cells) -> None:
    """Print what the participants reach alone and receive, the top contributor first."""
    print_head("data, partition", "accuracy, percent", *map(str, range(1, PARTICIPANTS + 1)))
    for setting, mechanisms in cells.items():
        rows = {"alone": by_rank(next(iter(mechanisms.values())), "standalone_test")}
        rows |= {mechanism: by_rank(runs, "test_accuracy") for mechanism, runs in mechanisms.items()}
        for name, accuracies in rows.items():
            print_row(", ".join(setting), name, *(f"{100 * value:.1f}" for value in accuracies))


def print_head(*titles: str) -> None:
    """Print the head of a Markdown table."""
    print()
    print_row(*titles)
    print("|---" * len(titles) + "|")


def print_row(*values: str) -> None:
    """Print a row of a Markdown table."""
    print("|", " | ".join(values), "|")


def by_rank(runs: list[dict[str, Any]], key: str) -> list[float]:
    """Return the mean over runs of what the participants have under a key, by falling contribution."""
    ordered = (sorted(run["participants"], key=lambda row: -row["contribution"]) for run in runs)
    return [float(np.mean(values)) for values in zip(*([row[key] for row in rows] for rows in ordered), strict=True)]


if __name__ == "__main__":
    main()
