"""``aequa sweep``: runs the cells of a matrix in parallel and writes the tables."""

import os
from collections.abc import Sequence

import torch
from jsonargparse import Namespace

from aequa_lightning.engine.processes.cluster_environment import without_launcher_variables
from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.files import check_writable
from aequa_lightning.runtime.terminal import PlainConsole
from aequa_lightning.sweep.cells import CellRunner, check_cells, failures
from aequa_lightning.sweep.files import write_tables
from aequa_lightning.sweep.matrix import Cell, Matrix
from aequa_lightning.sweep.options import part_index, read_matrix, select_part
from aequa_lightning.sweep.picture import draw_sweep
from aequa_lightning.sweep.pool import VISIBLE, run_cells, visible_devices
from aequa_lightning.sweep.results import Result, read_result, read_results
from aequa_lightning.sweep.table import compare, overall, rank, summarise
from aequa_lightning.sweep.terminal import MAX_ROWS, CellProgress, means_table, ranks_table, settings_table


def sweep(options: Namespace) -> None:
    """Run the unfinished cells of a sweep and write its tables.

    Args:
        options: See :func:`~aequa_lightning.sweep.options.add_options`.

    Raises:
        InputError: An option or a cell's configuration is refused; nothing has run.
        RunInterrupted: A signal stopped the sweep; the same command goes on with it.
        SystemExit: Status 1, because cells failed.
    """
    matrix = read_matrix(options)
    reference = options.reference or matrix.values("mechanism")[0]
    if reference not in matrix.values("mechanism"):
        raise InputError(f"reference={reference!r} is no value of axes.mechanism; name one of them.")
    chosen = select_part(matrix.select(options.only), *part_index(options))
    left = [cell for cell in chosen if read_result(matrix.run_folder(cell), cell) is None]
    console = PlainConsole(stderr=True)
    console.print(f"{len(chosen)} cells, {len(chosen) - len(left)} of them finished")
    # Cells are runs of their own, also within a job of several processes.
    with without_launcher_variables():
        check_cells(matrix, chosen)
    check_writable(matrix.folder, "sweep_dir")
    if left:
        with CellProgress(console, len(left)) as progress:
            run_cells(
                CellRunner(matrix, keep_models=options.keep_models),
                left,
                workers=options.workers or len(os.sched_getaffinity(0)),
                devices=_devices(matrix, left),
                on_end=progress.advance,
                on_stop=progress.say_stopping,
            )
    show_results(matrix, read_results(matrix), reference)
    failed = failures(matrix, chosen)
    elsewhere = [cell for cell in left if cell not in failed and read_result(matrix.run_folder(cell), cell) is None]
    if elsewhere:
        PlainConsole().print(
            f"{len(elsewhere)} cells are left to another sweep in this folder; when that has ended, the same command "
            "finishes the rest.",
        )
    if failed:
        PlainConsole().print(f"{len(failed)} cells failed; the same command tries them again:")
        for cell, reason in failed.items():
            PlainConsole().print(f"  {cell.name}: {reason}", soft_wrap=True)
        raise SystemExit(1)


def show_results(matrix: Matrix, results: Sequence[Result], reference: str) -> None:
    """Write the tables and the picture of the finished cells, and print what fits a terminal."""
    if not results:
        return
    rows = summarise(results)
    ranks, comparisons = rank(rows), compare(results, reference)
    write_tables(matrix.folder, results, rows, ranks, comparisons)
    draw_sweep(results, matrix.folder, reference=reference)
    console = PlainConsole()
    if not console.is_terminal:
        console.width = 120
    if len(rows) <= MAX_ROWS:
        console.print(settings_table(rows, width=console.width))
    if len({row.mechanism for row in rows}) > 1:
        console.print(means_table(overall(results)))
        if ranks:
            console.print(ranks_table(ranks, comparisons, reference))
    unfinished = len(matrix.cells()) - len(results)
    missing = f"; {unfinished} cells are not in it" if unfinished else ""
    console.print(f"table    {matrix.folder / 'table.md'} (.csv, .tex){missing}", soft_wrap=True)
    console.print(f"picture  {matrix.folder / 'sweep.png'} (.pdf)", soft_wrap=True)


def _devices(matrix: Matrix, cells: Sequence[Cell]) -> list[str]:
    """Return the GPUs that the cells are to use; none where they ask for the CPU or there is no other."""
    accelerators = {matrix.configuration(cell)["trainer"].get("accelerator", "auto") for cell in cells}
    if accelerators <= {"cpu"} or not torch.cuda.is_available():
        return []
    return visible_devices(torch.cuda.device_count(), os.environ.get(VISIBLE))
