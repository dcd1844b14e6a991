"""The result of a run, for Python and notebooks: allocation, figures, paths."""

from __future__ import annotations

import io
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from aequa_lightning.errors import InputError
from aequa_lightning.report import read_run, summary_table
from aequa_lightning.report.records import RunRecord
from aequa_lightning.run_folder.damaged_files import possibly_damaged, read_json

if TYPE_CHECKING:
    from pandas import DataFrame


class FitResult:
    """What a finished run has written, read from its folder when it is asked for.

    Shown by a notebook or by ``rich.print`` it is the table of participants that the terminal ends with.

    Args:
        run_dir: The run folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    @cached_property
    def allocation(self) -> dict[str, Any]:
        """Content of ``allocation.json``: widths, accuracies, fairness figures and the certificate.

        Raises:
            InputError: The file is damaged.
        """
        path = self.run_dir / "allocation.json"
        with possibly_damaged(path):
            content: dict[str, Any] = read_json(path)
            return content

    @cached_property
    def run(self) -> RunRecord:
        """The run as the report reads it: participants, rounds, allocation, figures."""
        return read_run(self.run_dir)

    @property
    def reward_files(self) -> dict[str, Path]:
        """The Lightning checkpoint that each participant receives, by the participant's name."""
        return {p.name: self.run_dir / "rewards" / f"{p.name}.ckpt" for p in self.run.participants}

    @property
    def report(self) -> Path | None:
        """The page of the run; None where the run was told to make none."""
        page = self.run_dir / "report.html"
        return page if page.is_file() else None

    def to_pandas(self) -> DataFrame:
        """Return one row a participant, in order of their numbers.

        Columns: ``participant``, ``samples``, ``standalone``, ``contribution``, ``width``, ``received`` and ``gain``:
        accuracies in [0, 1] and their differences, on the validation part; ``standalone_test`` and ``received_test`` on
        the test part.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError("to_pandas needs the package pandas; pip install 'aequa-lightning[tables]'.") from error
        columns = (
            "samples",
            "standalone",
            "contribution",
            "width",
            "received",
            "gain",
            "standalone_test",
            "received_test",
        )
        rows = [
            {"participant": p.name, **{column: getattr(p, column) for column in columns}} for p in self.run.participants
        ]
        return pandas.DataFrame(rows)

    def __rich__(self) -> Table:
        """Return the table of participants."""
        return summary_table(self.run_dir)

    def _repr_html_(self) -> str:
        """Return the table of participants for notebooks."""
        console = Console(record=True, file=io.StringIO(), width=110)
        console.print(self)
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def __repr__(self) -> str:
        """Return the figures in one line."""
        figures = self.run.allocation
        told = "" if figures is None else f", pearson={figures.pearson}, mcg={figures.mcg}, cgs={figures.cgs}"
        return f"FitResult(run_dir={str(self.run_dir)!r}, rounds={len(self.run.rounds)}{told})"
