"""``aequa sweep``: all cells of a matrix, side by side, and the table at the end."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace
from rich.console import Console

from aequa_lightning.checks import check_writable
from aequa_lightning.errors import InputError
from aequa_lightning.sweep.cells import CellRunner, check_cells, failures
from aequa_lightning.sweep.files import write_tables
from aequa_lightning.sweep.matrix import Cell, Matrix
from aequa_lightning.sweep.picture import draw_sweep
from aequa_lightning.sweep.pool import run_cells
from aequa_lightning.sweep.results import Result, read_result, read_results
from aequa_lightning.sweep.table import compare, overall, rank, summarise
from aequa_lightning.sweep.terminal import LONGEST, CellProgress, ranks_table, settings_table


def sweep(words: Sequence[str]) -> None:
    """Run what is left of a sweep and write its tables.

    Args:
        words: Options of the command line.

    Raises:
        InputError: Something cannot be used; nothing has run.
        RunInterrupted: A signal stopped the sweep; the same command goes on with it.
        SystemExit: Status 1, because cells failed.
    """
    options = parser().parse_args(list(words))
    matrix = read_matrix(options)
    reference = options.reference or matrix.values("mechanism")[0]
    if reference not in matrix.values("mechanism"):
        raise InputError(f"reference={reference!r} is no value of axes.mechanism; name one of them.")
    chosen = part_of(matrix.select(options.only), *_place(options))
    left = [cell for cell in chosen if read_result(matrix.run_folder(cell), cell) is None]
    console = Console(stderr=True)
    console.print(f"{len(chosen)} cells, {len(chosen) - len(left)} of them finished", highlight=False)
    # Forked processes must not inherit a pool of threads.
    torch.set_num_threads(1)
    check_cells(matrix, chosen)
    check_writable(matrix.folder)
    if left:
        with CellProgress(console, len(left)) as progress:
            run_cells(
                CellRunner(matrix, keep_models=options.keep_models),
                left,
                workers=options.workers or len(os.sched_getaffinity(0)),
                devices=_devices(matrix, left),
                on_end=progress.advance,
            )
    conclude(matrix, read_results(matrix), reference)
    failed = failures(matrix, chosen)
    if failed:
        Console().print(f"{len(failed)} cells failed; the same command tries them again:", highlight=False)
        for cell, reason in failed.items():
            Console().print(f"  {cell.name}: {reason}", highlight=False, soft_wrap=True, markup=False)
        raise SystemExit(1)


def parser() -> ArgumentParser:
    """Return the parser of a sweep's file and options."""
    parser = ArgumentParser(prog="aequa sweep", description="Run a matrix of runs.", exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile, help="the sweep's file")
    parser.add_argument("--sweep_dir", type=str, required=True, help="the sweep's folder")
    parser.add_argument("--base", type=dict, required=True, help="a configuration as of `aequa fit`")
    for axis in ("data", "partition", "network", "mechanism"):
        parser.add_argument(f"--axes.{axis}", type=dict, default={}, help="by name, what changes in the base")
    parser.add_argument("--axes.seed", type=list[int], default=[0], help="seeds of training and partition")
    parser.add_argument("--adjust", type=list[dict[str, Any]], default=[], help="changes for some cells only")
    parser.add_argument("--reference", type=str | None, help="the mechanism that others are compared with; the first")
    parser.add_argument("--keep_models", type=bool, default=False, help="whether cells keep checkpoints and rewards")
    parser.add_argument("--workers", type=int | None, help="processes on the CPU; default: one for each core")
    parser.add_argument("--only", type=dict, default={}, help="run some cells only, such as {data: digits, seed: [0]}")
    parser.add_argument("--index", type=int | None, help="which part to run, from 0; default: the SLURM array task")
    parser.add_argument("--count", type=int | None, help="how many parts there are; default: those of the SLURM array")
    return parser


def read_matrix(options: Namespace) -> Matrix:
    """Return the matrix that parsed options describe."""
    axes = options.axes.as_dict()
    return Matrix(Path(options.sweep_dir), options.base, axes, axes.pop("seed"), options.adjust)


def part_of(cells: Sequence[Cell], index: int, count: int) -> list[Cell]:
    """Return one of several parts of the cells: whole groups, which share what participants reach alone.

    Args:
        cells: All cells, those of a group in order.
        index: Which part, from 0.
        count: How many parts there are.

    Example:
        >>> cells = [Cell("digits", "even", "-", mechanism, seed) for seed in range(3) for mechanism in "ab"]
        >>> [f"{cell.mechanism}{cell.seed}" for cell in part_of(cells, 0, 2)]
        ['a0', 'b0', 'a2', 'b2']
    """
    groups = list(dict.fromkeys(cell.group for cell in cells))
    own = set(groups[index::count])
    return [cell for cell in cells if cell.group in own]


def conclude(matrix: Matrix, results: Sequence[Result], reference: str) -> None:
    """Write the tables and the picture of the finished cells, and print what fits a terminal."""
    if not results:
        return
    rows = summarise(results)
    ranks, comparisons = rank(rows), compare(results, reference)
    write_tables(matrix.folder, results, rows, ranks, comparisons)
    draw_sweep(results, matrix.folder, reference=reference)
    console = Console()
    if not console.is_terminal:
        console.width = 120
    if len(rows) <= LONGEST:
        console.print(settings_table(rows))
    if len({row.mechanism for row in rows}) > 1:
        console.print(ranks_table(overall(rows), ranks, comparisons, reference))
    unfinished = len(matrix.cells()) - len(results)
    missing = f"; {unfinished} cells are not in it" if unfinished else ""
    console.print(f"table    {matrix.folder / 'table.md'} (.csv, .tex){missing}", highlight=False, soft_wrap=True)
    console.print(f"picture  {matrix.folder / 'sweep.png'} (.pdf)", highlight=False, soft_wrap=True)


def _place(options: Namespace) -> tuple[int, int]:
    """Return which part of how many this process runs."""
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


def _devices(matrix: Matrix, cells: Sequence[Cell]) -> list[int]:
    """Return the GPUs that the cells are to use; none where they ask for the CPU or there is no other."""
    accelerators = {matrix.configuration(cell)["trainer"].get("accelerator", "auto") for cell in cells}
    if accelerators <= {"cpu"} or not torch.cuda.is_available():
        return []
    return list(range(torch.cuda.device_count()))
