"""Files of tables: read with pandas, and checked for the columns that are asked of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path

if TYPE_CHECKING:
    from pandas import DataFrame, Series

# Fewest rows of a class on average; fewer are measured values or names.
ROWS_PER_CLASS = 2


def read_table(path: str, key: str, *, separator: str) -> "DataFrame":
    """Read a CSV or Parquet file.

    Args:
        path: The file.
        key: Of the configuration, for messages.
        separator: Between the values of a CSV file.

    Raises:
        InputError: pandas or the file is missing, or the file cannot be read or holds no rows.
    """
    try:
        import pandas
    except ImportError as error:
        raise InputError("TableData needs the package pandas; pip install 'aequa-lightning[tables]'") from error
    file = user_path(path, key)
    if file.suffix.lower() not in (".csv", ".parquet") or not file.is_file():
        raise InputError(f"{key} {path} is no table; expected is a .csv or .parquet file")
    table = _read(pandas, file, key, separator=separator)
    if table.empty:
        raise InputError(f"{key} {path} holds no rows; expected is a header and a row a sample")
    return table


def _read(pandas: Any, file: Path, key: str, *, separator: str) -> "DataFrame":
    try:
        if file.suffix.lower() == ".parquet":
            return pandas.read_parquet(file)
        # With low_memory pandas would guess the type of a column block by block.
        return pandas.read_csv(file, sep=separator, low_memory=False, encoding="utf-8-sig")
    except ImportError as error:
        raise InputError(f"{key} {file}: Parquet needs pyarrow; pip install 'aequa-lightning[tables]'") from error
    except (ValueError, TypeError, OSError, pandas.errors.ParserError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{key} {file} cannot be read ({first:.200}); save it again as CSV in UTF-8") from error


def check_columns(table: "DataFrame", path: str, key: str, names: Sequence[str]) -> None:
    """Check that a table has the columns that an option names.

    Args:
        table: The table.
        path: Its file, for messages.
        key: The option.
        names: The columns.

    Raises:
        InputError: It lacks one.
    """
    for name in names:
        if name not in table.columns:
            known = ", ".join(map(str, table.columns[:20]))
            hint = "; is data.separator right?" if len(table.columns) == 1 else ""
            raise InputError(f"data.{key}: {path} has no column {name!r}, but {known}{hint}")


def check_present(table: "DataFrame", path: str, name: str) -> None:
    """Check that the column of classes or participants holds a value in every row.

    Args:
        table: The table.
        path: Its file, for messages.
        name: The column.

    Raises:
        InputError: It does not.
    """
    absent = int(table[name].isna().sum())
    if absent:
        raise InputError(
            f"data.path {path}: column {name!r} lacks {absent} of {len(table)} values; leave those rows out"
        )


def check_classes(column: "Series", path: str) -> None:
    """Check that a column holds classes, not measured values or names.

    Args:
        column: The target, without missing values.
        path: The file, for messages.

    Raises:
        InputError: It does not.
    """
    from pandas.api import types

    about, found = f"data.path {path}: the target {column.name!r} holds", column.nunique()
    if types.is_float_dtype(column) and not (column == column.round()).all():
        raise InputError(
            f"{about} measured values such as {column.iloc[0]}, and only classes can be learned; cut them into ranges:"
            f" table[{column.name!r}] = pandas.qcut(table[{column.name!r}], 4).astype(str)"
        )
    if found < 2:
        raise InputError(f"{about} {column.iloc[0]!r} in all rows; two classes at least")
    if found * ROWS_PER_CLASS > len(column):
        raise InputError(
            f"{about} {found} different values in {len(column)} rows, too many for classes; choose another column, or"
            " make ranges with pandas.qcut"
        )
