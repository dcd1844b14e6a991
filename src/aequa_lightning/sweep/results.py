"""The result of a finished cell, and the record of a failed one."""

import json
import shutil
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aequa_lightning.errors import InputError, RunFailed
from aequa_lightning.report.quantities import title
from aequa_lightning.rewards.allocation.fairness import gain_spread, mean_gain, minimum_gain, pearson
from aequa_lightning.run_folder.damaged_files import possibly_damaged
from aequa_lightning.run_folder.files import write_json
from aequa_lightning.sweep.matrix import Cell, Matrix

REMEDY = "`aequa sweep` runs it again"


@dataclass(frozen=True)
class Metric:
    """A column of the table.

    Attributes:
        key: Its name in files, one of :data:`~aequa_lightning.report.quantities.RUN`.
        unit: Its unit for readers; empty for a correlation.
        scale: What it is multiplied with for readers.
        digits: Decimals for readers.
        largest_first: Whether more is better.
    """

    key: str
    unit: str = "points"
    scale: float = 100.0
    digits: int = 1
    largest_first: bool = True

    @property
    def title(self) -> str:
        """Its name for readers."""
        return title(self.key)


METRICS = (
    Metric("best_test", "%"),
    Metric("mean_test", "%"),
    Metric("pearson_test", "", scale=1.0, digits=3),
    Metric("pearson", "", scale=1.0, digits=3),
    Metric("mcg_test"),
    Metric("cgs_test", largest_first=False),
    Metric("minimum_gain_test"),
)
"""Of what participants receive, on the test part: the best participant's accuracy, the mean accuracy, the correlation
with the accuracy alone, and mean, spread and minimum of the gains over it. The correlation also on the validation part,
which is what a mechanism can go by: the two differ by what the test part says otherwise about the participants."""


@dataclass(frozen=True)
class Result:
    """One finished cell.

    Attributes:
        cell: Which one.
        metrics: By key; None where undefined, as the correlation with a reward that is the same for all, or gains
            where nobody trained alone.
        seconds: Wall time of its run.
    """

    cell: Cell
    metrics: Mapping[str, float | None]
    seconds: float


def metrics_of(allocation: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the metrics of a run from its ``allocation.json``.

    Example:
        >>> first = {"standalone_test": 0.5, "test_accuracy": 0.75, "accuracy": 0.75, "gain": 0.5}
        >>> second = {"standalone_test": 0.25, "test_accuracy": 0.5, "accuracy": 0.5, "gain": 0.125}
        >>> found = metrics_of({"participants": [first, second]})
        >>> [found[key] for key in ("best_test", "mean_test", "mcg_test", "cgs_test", "minimum_gain_test")]
        [0.75, 0.625, 0.25, 0.0, 0.25]
        >>> found["pearson_test"], found["pearson"]
        (1.0, -1.0)
    """
    rows = allocation["participants"]
    alone = [row["standalone_test"] for row in rows]
    received = [row["test_accuracy"] for row in rows]
    reached: dict[str, float | None] = {"best_test": max(received), "mean_test": sum(received) / len(received)}
    if None in alone:
        return dict.fromkeys(metric.key for metric in METRICS) | reached
    return {
        **reached,
        "pearson_test": pearson(alone, received),
        "pearson": pearson([row["accuracy"] - row["gain"] for row in rows], [r["accuracy"] for r in rows]),
        "mcg_test": mean_gain(alone, received),
        "cgs_test": gain_spread(alone, received),
        "minimum_gain_test": minimum_gain(alone, received),
    }


def read_result(folder: Path, cell: Cell) -> Result | None:
    """Return the result of a cell, or None while it has none; with a damaged file it counts as unfinished."""
    path, allocation = folder / "result.json", folder / "allocation.json"
    if not path.is_file():
        return None
    try:
        read_configuration(folder)
        with possibly_damaged(path, REMEDY):
            seconds = float(json.loads(path.read_bytes())["seconds"])
        with possibly_damaged(allocation, REMEDY):
            metrics = metrics_of(json.loads(allocation.read_bytes()))
    except InputError as error:
        warn_of_damage(cell, error)
        return None
    return Result(cell, metrics, seconds)


def read_configuration(folder: Path) -> Any | None:
    """Return the configuration that a cell was run with; None before it has begun.

    Raises:
        InputError: The file is damaged.
    """
    path = folder / "cell.json"
    if not path.is_file():
        return None
    with possibly_damaged(path, REMEDY):
        return json.loads(path.read_bytes())


def warn_of_damage(cell: Cell, error: InputError) -> None:
    """Say which file of a cell is damaged."""
    # One place for all: Python shows the same warning from one place once.
    warnings.warn(f"cell {cell.name} counts as unfinished: {error}", stacklevel=1)


def read_results(matrix: Matrix) -> list[Result]:
    """Return the results of all finished cells, in order of cells."""
    found = (read_result(matrix.run_folder(cell), cell) for cell in matrix.cells())
    return [result for result in found if result is not None]


def write_result(folder: Path, cell: Cell, *, seconds: float, keep_models: bool) -> None:
    """Mark a run as finished; its figures stay in ``allocation.json``.

    Args:
        folder: The run folder.
        cell: Which cell it is.
        seconds: Wall time.
        keep_models: Whether checkpoints and reward files stay.
    """
    write_json(folder / "result.json", {"cell": asdict(cell), "seconds": seconds})
    # Of an attempt of another command.
    (folder / "failure.json").unlink(missing_ok=True)
    if not keep_models:
        for part in ("checkpoints", "rewards"):
            shutil.rmtree(folder / part, ignore_errors=True)


def write_failure(folder: Path, error: Exception | str) -> str:
    """Write down why a cell failed, until it is tried again; return it as one line."""
    # Messages of these need no type and no traceback.
    plain = isinstance(error, str | InputError | RunFailed)
    message = str(error) if plain else f"{type(error).__name__}: {error}"
    trace = [] if isinstance(error, str) else traceback.format_exception(error)
    write_json(folder / "failure.json", {"error": message, "traceback": "".join(trace).splitlines()})
    return message.splitlines()[0]


def forget_ending(folder: Path) -> None:
    """Remove the files that mark a cell as finished or failed."""
    for name in ("failure.json", "result.json"):
        (folder / name).unlink(missing_ok=True)
