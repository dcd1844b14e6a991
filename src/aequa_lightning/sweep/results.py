"""What a finished cell is worth in the table, and how a cell that failed is remembered."""

import json
import shutil
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aequa_lightning.errors import InputError, RunFailed
from aequa_lightning.files import write_json
from aequa_lightning.rewards.fairness import gain_spread, mean_gain, minimum_gain, pearson
from aequa_lightning.sweep.matrix import Cell, Matrix


@dataclass(frozen=True)
class Metric:
    """A column of the table.

    Attributes:
        key: Its name in files.
        title: Its name for readers.
        scale: What it is multiplied with for readers.
        digits: Decimals for readers.
        largest_first: Whether more is better.
    """

    key: str
    title: str
    scale: float = 100.0
    digits: int = 1
    largest_first: bool = True


METRICS = (
    Metric("best", "best"),
    Metric("mean", "mean"),
    Metric("pearson", "Pearson", scale=1.0, digits=3),
    Metric("mcg", "MCG"),
    Metric("cgs", "CGS", largest_first=False),
    Metric("minimum_gain", "least"),
)
"""All on the test part, of what participants receive: the best participant's accuracy, the mean accuracy, the
correlation with the accuracy alone, and mean, spread and minimum of the gains over it."""


@dataclass(frozen=True)
class Result:
    """One finished cell.

    Attributes:
        cell: Which one.
        metrics: By key; None where undefined, as the correlation with a reward that is the same for all.
        seconds: What its run took.
    """

    cell: Cell
    metrics: Mapping[str, float | None]
    seconds: float


def metrics_of(allocation: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the metrics of a run from its ``allocation.json``.

    Example:
        >>> rows = [{"standalone_test": 0.5, "test_accuracy": 0.75}, {"standalone_test": 0.25, "test_accuracy": 0.5}]
        >>> metrics_of({"participants": rows})
        {'best': 0.75, 'mean': 0.625, 'pearson': 1.0, 'mcg': 0.25, 'cgs': 0.0, 'minimum_gain': 0.25}
    """
    alone = [row["standalone_test"] for row in allocation["participants"]]
    received = [row["test_accuracy"] for row in allocation["participants"]]
    return {
        "best": max(received),
        "mean": sum(received) / len(received),
        "pearson": pearson(alone, received),
        "mcg": mean_gain(alone, received),
        "cgs": gain_spread(alone, received),
        "minimum_gain": minimum_gain(alone, received),
    }


def read_result(folder: Path, cell: Cell) -> Result | None:
    """Return the result of a cell, or None while it has none."""
    path = folder / "result.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    return Result(cell, content["metrics"], content["seconds"])


def read_results(matrix: Matrix) -> list[Result]:
    """Return the results of all finished cells, in order of cells."""
    found = (read_result(matrix.run_folder(cell), cell) for cell in matrix.cells())
    return [result for result in found if result is not None]


def write_result(folder: Path, cell: Cell, *, seconds: float, keep_models: bool) -> None:
    """Turn a finished run into a result.

    Args:
        folder: The run folder.
        cell: Which cell it is.
        seconds: What it took.
        keep_models: Whether checkpoints and reward files stay.
    """
    allocation = json.loads((folder / "allocation.json").read_text())
    content = {"cell": asdict(cell), "metrics": metrics_of(allocation), "seconds": seconds}
    write_json(folder / "result.json", content)
    if not keep_models:
        for part in ("checkpoints", "rewards"):
            shutil.rmtree(folder / part, ignore_errors=True)


def write_failure(folder: Path, error: Exception | str) -> str:
    """Remember why a cell failed, and return it as one line; trying again forgets it."""
    # These two speak for themselves.
    plain = isinstance(error, str | InputError | RunFailed)
    message = str(error) if plain else f"{type(error).__name__}: {error}"
    trace = [] if isinstance(error, str) else traceback.format_exception(error)
    write_json(folder / "failure.json", {"error": message, "traceback": "".join(trace).splitlines()})
    return message.splitlines()[0]


def forget_failure(folder: Path) -> None:
    """Remove the note of a failure."""
    (folder / "failure.json").unlink(missing_ok=True)
