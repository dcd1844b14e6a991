"""CSV files whose texts no spreadsheet takes for formulas, and their reader."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aequa_lightning.runtime.terminal import printable

# A spreadsheet takes a cell for a formula that begins with one of these, for some importers after blanks. Texts that
# already have apostrophes before them get one more, so that reading restores them.
_FORMULA = re.compile(r"'*\s*[=+\-@\t\r\n＝＋－＠].", re.DOTALL)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, header: bool = True) -> str:
    r"""Return a table as CSV, in which a text that a spreadsheet would compute begins with an apostrophe.

    Numbers stay numbers, also negative ones; None is an empty cell. Control characters are escaped.

    Args:
        columns: Names of the columns.
        rows: A value for each column.
        header: Whether the first line names the columns.

    Source: OWASP, "CSV Injection".

    Example:
        >>> csv_text(["name", "gain"], [("=1+1", -0.5), ("Ann", None)])
        "name,gain\n'=1+1,-0.5\nAnn,\n"
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in [columns, *rows] if header else rows:
        writer.writerow([_as_text(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue()


def csv_of(rows: Sequence[Mapping[str, Any]], *, header: bool = True) -> str:
    r"""Return rows with the same keys as CSV, see `csv_text`; without rows, an empty line.

    Example:
        >>> csv_of([{"round": 1, "loss": 0.5}])
        'round,loss\n1,0.5\n'
    """
    return csv_text(list(rows[0]) if rows else [], [list(row.values()) for row in rows], header=header)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file that `csv_text` wrote, each by the names of the columns.

    Args:
        path: The file, in UTF-8; a byte order mark is skipped.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [
            {_as_written(column): _as_written(cell) for column, cell in row.items()} for row in csv.DictReader(file)
        ]


def _as_text(cell: str) -> str:
    return printable(f"'{cell}" if _FORMULA.match(cell) else cell)


def _as_written(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
