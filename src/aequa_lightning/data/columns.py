"""Columns of a table as numbers: each number one feature, each category as many features as it has values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from aequa_lightning.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Missing = Literal["refuse", "impute"]

# A column of more different texts, or of other ones in most rows, names its rows rather than describes them.
MAX_CATEGORIES = 100
# Category of what is missing, where it is imputed.
MISSING = "missing"


@dataclass(frozen=True)
class NumberColumn:
    """Encodes a column of numbers or truth values as one feature.

    Attributes:
        name: Of the column.
        fill: Median of the training part, in the place of missing values; None: there are none.
    """

    name: str
    fill: float | None

    @property
    def features(self) -> list[str]:
        """Names of the features."""
        return [self.name]

    def encode(self, column: "Series") -> npt.NDArray[np.float64]:
        """Return the features of a column, shape (rows, 1)."""
        values: npt.NDArray[np.float64] = np.array(column.to_numpy(dtype=np.float64, na_value=np.nan))
        if self.fill is not None:
            values[np.isnan(values)] = self.fill
        return values[:, None]


@dataclass(frozen=True)
class CategoryColumn:
    """Encodes a column as one feature for each category of the training part, 0 or 1.

    A category that the training part lacks has 0 everywhere.

    Attributes:
        name: Of the column.
        categories: Those of the training part, sorted.
    """

    name: str
    categories: tuple[str, ...]

    @property
    def features(self) -> list[str]:
        """Names of the features."""
        return [f"{self.name}={category}" for category in self.categories]

    def encode(self, column: "Series") -> npt.NDArray[np.float64]:
        """Return the features of a column, shape (rows, categories)."""
        found = texts(column).fillna(MISSING).to_numpy(dtype=str)
        encoded: npt.NDArray[np.float64] = np.equal(found[:, None], np.array(self.categories)).astype(np.float64)
        return encoded


Column = NumberColumn | CategoryColumn


def texts(column: "Series") -> "Series":
    """Return the values of a column as texts; whole numbers that a table holds as floats are written as whole ones.

    Args:
        column: Any column; what is missing stays missing.

    Example:
        >>> import pandas
        >>> texts(pandas.Series([1.0, 12.0])).tolist(), texts(pandas.Series(["a", "b"])).tolist()
        (['1', '12'], ['a', 'b'])
    """
    from pandas.api import types

    if types.is_float_dtype(column):
        numbers = column.dropna()
        if np.isfinite(numbers).all() and (numbers == numbers.round()).all():
            column = column.astype("Int64")
    return column.astype("string")


def numbered(column: "Series") -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return the different values of a column as texts, sorted, and the number of each row's value among them.

    Args:
        column: Without missing values.

    Example:
        >>> import pandas
        >>> numbered(pandas.Series([10.0, 9.0, 10.0]))
        (('9', '10'), array([1, 0, 1]))
    """
    from pandas.api import types

    found = texts(column).tolist()
    is_number = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
    names = tuple(sorted(set(found), key=float if is_number else str))
    number = {name: index for index, name in enumerate(names)}
    return names, np.array([number[text] for text in found], dtype=np.int64)


def fit_columns(
    table: "DataFrame", names: Sequence[str], *, categorical: Sequence[str], missing: Missing, path: str
) -> list[Column]:
    """Decide how each column is encoded, by the rows of the training part.

    Args:
        table: The training part.
        names: Columns that are features.
        categorical: Columns of numbers that stand for categories.
        missing: Whether missing values are refused, or imputed: numbers by the median, categories as one of their own.
        path: Of the file, for messages.

    Raises:
        InputError: A column holds neither numbers nor texts, or too many different texts, or nothing.
    """
    return [_fit(table[name], name, is_category=name in categorical, missing=missing, path=path) for name in names]


def _fit(column: "Series", name: str, *, is_category: bool, missing: Missing, path: str) -> Column:
    from pandas import CategoricalDtype
    from pandas.api import types

    present = column.dropna()
    if present.empty:
        raise InputError(f"data.path {path}: column {name!r} is empty; name it in data.ignore")
    if not is_category and types.is_numeric_dtype(column) and not types.is_complex_dtype(column):
        return NumberColumn(name, float(present.median()) if missing == "impute" else None)
    if not (is_category or types.is_string_dtype(present) or isinstance(column.dtype, CategoricalDtype)):
        raise InputError(
            f"data.path {path}: column {name!r} is {column.dtype}, neither numbers nor texts; convert it, or name it in"
            " data.ignore"
        )
    categories = set(texts(present).tolist())
    if missing == "impute" and len(present) < len(column):
        categories.add(MISSING)
    most = min(MAX_CATEGORIES, len(present) // 2)
    if len(categories) > most:
        raise InputError(
            f"data.path {path}: column {name!r} holds {len(categories)} different values in {len(present)} rows, and at"
            f" most {most} can be categories; name it in data.ignore, or make fewer of them"
        )
    return CategoryColumn(name, tuple(sorted(categories)))


def check_values(table: "DataFrame", columns: Sequence[Column], *, missing: Missing, path: str) -> None:
    """Check that nothing is missing or infinite.

    Args:
        table: The rows of one file.
        columns: Those that are features.
        missing: What is done with missing values.
        path: Of the file, for messages.

    Raises:
        InputError: Something is.
    """
    for column in columns:
        values = table[column.name]
        absent = int(values.isna().sum())
        if absent and missing == "refuse":
            raise InputError(
                f"data.path {path}: column {column.name!r} lacks {absent} of {len(values)} values; set"
                " data.missing=impute, leave those rows out, or name the column in data.ignore"
            )
        if isinstance(column, NumberColumn) and np.isinf(column.encode(values)).any():
            raise InputError(f"data.path {path}: column {column.name!r} holds infinity; mend or remove those rows")


def unknown_categories(table: "DataFrame", columns: Sequence[Column]) -> list[tuple[str, str, int]]:
    """Return the columns of categories that the training part lacks: name, first such value, and number of such rows.

    Args:
        table: The test part.
        columns: Those that are features.
    """
    found = []
    for column in columns:
        if isinstance(column, CategoryColumn):
            rows = column.encode(table[column.name]).sum(1) == 0
            if rows.any():
                found.append((column.name, str(table[column.name][rows].iloc[0]), int(rows.sum())))
    return found
