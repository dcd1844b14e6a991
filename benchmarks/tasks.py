"""One row for each task: what participants reach alone, the shared network, Pearson and gains.

``python -m benchmarks.tasks`` trains all, one after another, and writes ``docs/results/tasks.csv``; with ``--print`` it
prints the table of the rows on file.
"""

import argparse
import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from aequa_lightning.__main__ import main as aequa

REPOSITORY = Path(__file__).parents[1]
CSV = REPOSITORY / "docs" / "results" / "tasks.csv"
# Configuration of each task, and what it is called in the table.
TASKS = {
    "tasks/breast_cancer": "tumours by 30 measures (MLP)",
    "tasks/diabetes": "progress of diabetes (MLP)",
    "tasks/shapes": "drawn shapes by pixel (U-Net)",
    "tasks/digit_pairs": "digits of a pair (CNN)",
    "tasks/characters": "next character (GPT)",
}
Row = Mapping[str, str]


def measure(run_dir: Path) -> dict[str, str]:
    """Return the row of a finished run; scores are of the validation part, gains in hundredths of the score.

    Args:
        run_dir: The run folder.
    """
    allocation = json.loads((run_dir / "allocation.json").read_text())
    people = allocation["participants"]
    alone = [person["accuracy"] - person["gain"] for person in people]
    figures = {
        "standalone_worst": min(alone),
        "standalone_mean": statistics.fmean(alone),
        "standalone_best": max(alone),
        "full_width": allocation["accuracy_by_width"]["1.0"],
        "pearson": allocation["pearson"],
        "mcg": 100 * allocation["mcg"],
        "cgs": 100 * allocation["cgs"],
        "minimum_gain": 100 * allocation["minimum_gain"],
    }
    return {"score": allocation["score"]["name"]} | {key: f"{value:.6f}" for key, value in figures.items()}


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| task | score | alone, worst to best | full width | Pearson | mean gain | spread | least gain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        number = {key: float(value) for key, value in row.items() if key not in ("task", "score")}
        lines.append(
            f"| {TASKS[row['task']]} | {row['score']} | {number['standalone_worst']:.3f} to "
            f"{number['standalone_best']:.3f} | {number['full_width']:.3f} | {number['pearson']:.3f} | "
            f"{number['mcg']:+.1f} | {number['cgs']:.1f} | {number['minimum_gain']:+.1f} |"
        )
    return "\n".join(lines)


def read() -> list[Row]:
    """Return the rows on file."""
    with CSV.open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Train and measure every task, unless the rows on file are only to be printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--print", action="store_true", help="print the rows on file and train nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    options = parser.parse_args()
    if not options.print:
        rows = []
        for task in TASKS:
            run_dir = options.runs / task
            words = ["fit", "--config", str(REPOSITORY / "configs" / f"{task}.yaml"), f"--trainer.run_dir={run_dir}"]
            if aequa([*words, "--trainer.report=false"]):
                raise SystemExit(f"{task} failed")
            rows.append({"task": task} | measure(run_dir))
        with CSV.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(table(read()))


if __name__ == "__main__":
    main()
