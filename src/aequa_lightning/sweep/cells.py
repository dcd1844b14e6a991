"""Checks the cells of a sweep before the first one runs, and runs cells one after another in one process."""

import json
import time
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from aequa_lightning.cli.lightning_cli import AequaCLI
from aequa_lightning.cli.parser_errors import condense
from aequa_lightning.data import CollaborativeData
from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.files import write_json
from aequa_lightning.run_folder.lock import try_lock
from aequa_lightning.sweep.matrix import Cell, Matrix
from aequa_lightning.sweep.results import (
    forget_ending,
    read_configuration,
    read_result,
    warn_of_damage,
    write_failure,
    write_result,
)

# Held while a sweep runs the cell; the run has a lock of its own.
LOCK = ".cell.lock"


class CellRunner:
    """Runs cells, and keeps data loaded that the next cell shares.

    Args:
        matrix: The sweep.
        keep_models: Whether finished cells keep their checkpoints and reward files.
    """

    def __init__(self, matrix: Matrix, *, keep_models: bool) -> None:
        self.matrix, self.keep_models = matrix, keep_models
        self._loaded: tuple[dict[str, Any], CollaborativeData] | None = None

    def run(self, cell: Cell) -> str | None:
        """Run or resume a cell, unless it has finished or another sweep of the folder is running it.

        Returns:
            Why it failed, in one line; None if it has finished, or another sweep is running it.

        Raises:
            RunInterrupted: A signal stopped it after its state was saved.
        """
        folder = self.matrix.run_folder(cell)
        with try_lock(folder / LOCK) as ours:
            if not ours or read_result(folder, cell) is not None:
                return None
            return self._run(folder, cell)

    def _run(self, folder: Path, cell: Cell) -> str | None:
        began = time.perf_counter()
        forget_ending(folder)
        write_json(folder / "cell.json", self.matrix.configuration(cell))
        try:
            with (
                (folder / "log.txt").open("a", encoding="utf-8", errors="backslashreplace") as log,
                redirect_stdout(log),
                redirect_stderr(log),
            ):
                cli = AequaCLI({"fit": self.matrix.runnable(cell)}, execute=False)
                cli.before_fit()
                cli.trainer.fit(cli.model, self._data(cli), ckpt_path="last")
            seconds = time.perf_counter() - began
            write_result(folder, cell, seconds=seconds, keep_models=self.keep_models)
        except Exception as error:
            return write_failure(folder, error)
        return None

    def _data(self, cli: AequaCLI) -> CollaborativeData:
        """Return the data of a cell; the last cell's if the configuration is the same."""
        description = cli.config["fit"]["data"].as_dict()
        if self._loaded is None or self._loaded[0] != description:
            self._loaded = description, cli.datamodule
        return self._loaded[1]


def check_cells(matrix: Matrix, cells: Iterable[Cell]) -> None:
    """Parse the configuration of every cell, and build model, data and trainer of one cell of each data and network.

    Args:
        matrix: The sweep.
        cells: The cells that are to run.

    Raises:
        InputError: A configuration cannot be used, or a cell was run with another one; the cell and the key are named.
    """
    cli: AequaCLI | None = None
    parsed: set[tuple[str, ...]] = set()
    built: set[tuple[str, str]] = set()
    for cell in cells:
        _check_unchanged(matrix, cell)
        alike = (*cell.setting, cell.mechanism)
        if alike in parsed:
            continue  # seeds are checked when the matrix is read
        parsed.add(alike)
        configuration = matrix.runnable(cell)
        try:
            if cli is None or (cell.data, cell.network) not in built:
                cli = AequaCLI({"fit": configuration}, execute=False)
                built.add((cell.data, cell.network))
            else:
                cli.parser.parse_object({"subcommand": "fit", "fit": configuration})
        except Exception as error:
            raise InputError(f"cell {cell.name}: {_reason(error)}") from error


def _check_unchanged(matrix: Matrix, cell: Cell) -> None:
    folder = matrix.run_folder(cell)
    try:
        former = read_configuration(folder)
    except InputError as error:
        warn_of_damage(cell, error)
        return
    if former is not None and former != json.loads(json.dumps(matrix.configuration(cell))):
        raise InputError(
            f"cell {cell.name} was run with another configuration, which {folder / 'cell.json'} holds; choose another "
            f"sweep_dir, or remove {folder} to run it anew."
        )


def _reason(error: BaseException) -> str:
    """Return the first InputError among an error's causes, or else the error, in a few lines."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    return condense(str(cause or error))


def failures(matrix: Matrix, cells: Iterable[Cell]) -> dict[Cell, str]:
    """Return why cells failed, in one line each."""
    found = {}
    for cell in cells:
        folder = matrix.run_folder(cell)
        path = folder / "failure.json"
        if path.is_file() and read_result(folder, cell) is None:
            found[cell] = json.loads(path.read_text(encoding="utf-8"))["error"].splitlines()[0]
    return found
