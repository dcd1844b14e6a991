"""The options of ``aequa sweep``; most are given in the sweep's file."""

import os
from collections.abc import Sequence

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path
from aequa_lightning.sweep.matrix import Cell, Matrix


def add_options(parser: ArgumentParser) -> None:
    """Add the options to a parser.

    Overrides stay plain dictionaries: they are parsed once they have been merged into the base.
    """
    parser.add_argument("--config", action=ActionConfigFile, help="the sweep's file")
    parser.add_argument("--sweep_dir", type=str, required=True, help="the sweep's folder")
    parser.add_argument("--base", type=dict, required=True, help="a configuration as of `aequa fit`")
    for axis in ("data", "partition", "network", "mechanism"):
        parser.add_argument(f"--axes.{axis}", type=dict, default={}, help="by name, what changes in the base")
    parser.add_argument("--axes.seed", type=list[int], default=[0], help="seeds of training and partition")
    parser.add_argument("--adjust", type=list, default=[], help="changes for some cells only")
    parser.add_argument("--reference", type=str | None, help="the mechanism that others are compared with; the first")
    parser.add_argument("--keep_models", type=bool, default=False, help="whether cells keep checkpoints and rewards")
    parser.add_argument("--workers", type=int | None, help="processes on the CPU; default: one for each core")
    parser.add_argument("--only", type=dict, default={}, help="run some cells only, such as {data: digits, seed: [0]}")
    parser.add_argument("--index", type=int | None, help="which part to run, from 0; default: the SLURM array's task")
    parser.add_argument("--count", type=int | None, help="how many parts there are; default: the SLURM array's tasks")


def read_matrix(options: Namespace) -> Matrix:
    """Return the matrix that parsed options describe."""
    axes = options.axes.as_dict()
    return Matrix(user_path(options.sweep_dir, "sweep_dir"), options.base, axes, axes.pop("seed"), options.adjust)


def select_part(cells: Sequence[Cell], index: int, count: int) -> list[Cell]:
    """Return one of several parts of the cells: whole groups, which share their standalone results.

    Args:
        cells: All cells, those of a group in order.
        index: Which part, from 0.
        count: How many parts there are.

    Example:
        >>> cells = [Cell("digits", "even", "-", mechanism, seed) for seed in range(3) for mechanism in "ab"]
        >>> [f"{cell.mechanism}{cell.seed}" for cell in select_part(cells, 0, 2)]
        ['a0', 'b0', 'a2', 'b2']
    """
    groups = list(dict.fromkeys(cell.group for cell in cells))
    own = set(groups[index::count])
    return [cell for cell in cells if cell.group in own]


def part_index(options: Namespace) -> tuple[int, int]:
    """Return which part of how many this process runs: the index from 0, and the number of parts.

    Raises:
        InputError: One of the two is missing, or the index is out of range.
    """
    index, count = options.index, options.count
    if index is None and count is None and "SLURM_ARRAY_TASK_ID" in os.environ:
        first, step = (
            int(os.environ.get(f"SLURM_ARRAY_TASK_{key}", value)) for key, value in (("MIN", 0), ("STEP", 1))
        )
        index = (int(os.environ["SLURM_ARRAY_TASK_ID"]) - first) // step
        count = int(os.environ["SLURM_ARRAY_TASK_COUNT"])
    if index is None and count is None:
        return 0, 1
    if index is None or count is None or not 0 <= index < count:
        raise InputError(f"--index {index} --count {count}: give both, the index from 0 and below the count.")
    return index, count
