"""What each mechanism of a finished sweep reaches, over all its settings and seeds.

Usage: python -m benchmarks.mechanism_means [RESULTS]

RESULTS is the ``results.csv`` of a sweep; by default ``docs/results/mechanisms.csv``, which holds the rows of

    aequa sweep --config configs/paper/small.yaml --only '{data: digits, mechanism: [...]}'

``docs/results/training_time.csv`` holds rows of ``python -m benchmarks.training_time``.

Prints a Markdown table of means over all runs in which a figure is defined, the most fair on the validation part first.
"""

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from aequa_lightning.sweep.results import METRICS

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "mechanisms.csv"


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a ``results.csv``."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(rows: list[dict[str, str]]) -> str:
    """Return the means of each mechanism as a Markdown table."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for metric in METRICS:
            values[row["mechanism"]][metric.key] += [float(row[metric.key])] if row[metric.key] else []
    fairness = {name: statistics.fmean(own["pearson"] or [-2.0]) for name, own in values.items()}
    lines = [f"| mechanism | {' | '.join(metric.title for metric in METRICS)} |", f"|---|{'---|' * len(METRICS)}"]
    for name in sorted(values, key=lambda name: -fairness[name]):
        cells = [
            f"{metric.scale * statistics.fmean(own):.{metric.digits}f}" if (own := values[name][metric.key]) else "–"
            for metric in METRICS
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(read(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)))
