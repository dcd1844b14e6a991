"""Tables of the user's own: a row a sample, in CSV or Parquet."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from aequa_lightning.data.columns import (
    CategoryColumn,
    Missing,
    check_values,
    fit_columns,
    numbered,
    texts,
    unknown_categories,
)
from aequa_lightning.data.groups import Natural
from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.data.partition import Partition
from aequa_lightning.data.preparation import IntArray, stratified_split
from aequa_lightning.data.table_files import check_classes, check_columns, check_present, read_table
from aequa_lightning.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

# Part of every class that is tested where there is no file of the test part.
TEST_SHARE = 0.2


@dataclass(frozen=True)
class NamedParticipants(Natural):
    """Follow the column that names the participants."""

    remedy: ClassVar[str] = "leave out the rows of that participant, or lower data.min_samples"


class TableData(CollaborativeData):
    """A table of a row a sample, as CSV or Parquet; needs pandas (``pip install 'aequa-lightning[tables]'``).

    Columns of numbers are features, normalised by the training part. A column of texts is as many features as the
    training part has different texts in it, 0 or 1 each. The values of the target's column are the classes, sorted.

    Args:
        path: The ``.csv`` or ``.parquet`` file.
        target: Column of the classes.
        participant_column: Column that names the participant of each row, such as the hospital; each value becomes a
            participant of that name. None: ``partition`` divides the rows among ``participants``.
        test_path: File of the test part, with the same columns; None: a fifth of every class of ``path``, drawn with
            seed 0 whatever the ``partition_seed``.
        ignore: Columns that are left out, such as numbers of patients.
        categorical: Columns of numbers that stand for categories, such as postcodes.
        missing: ``refuse`` missing values, or ``impute`` them: numbers by the median of the training part, texts as a
            category of their own.
        separator: Between the values of a CSV file.
        participants: How many participants share the rows; with ``participant_column`` as many as it names.
        partition: The rule that divides the rows; not with ``participant_column``.
        **kwargs: See `CollaborativeData`.

    Attributes:
        classes: Values of the target's column, in the order of the classes' numbers.

    Raises:
        InputError: When pandas, the file or a column is missing, or values cannot be features or classes.
    """

    def __init__(
        self,
        path: str,
        *,
        target: str,
        participant_column: str | None = None,
        test_path: str | None = None,
        ignore: Sequence[str] = (),
        categorical: Sequence[str] = (),
        missing: Missing = "refuse",
        separator: str = ",",
        participants: int | None = None,
        partition: Partition | None = None,
        **kwargs: Any,
    ) -> None:
        if missing not in ("refuse", "impute"):
            raise InputError(f"data.missing is {missing!r}; choose refuse or impute")
        table = read_table(path, "data.path", separator=separator)
        check_columns(table, path, "target", [target])
        check_columns(table, path, "ignore", ignore)
        check_columns(table, path, "categorical", categorical)
        groups: IntArray | None = None
        if participant_column is not None:
            check_columns(table, path, "participant_column", [participant_column])
            check_present(table, path, participant_column)
            names, groups = numbered(table[participant_column])
            _check_unnamed(participants, partition, names)
            participants, partition = len(names), NamedParticipants()
        super().__init__(participants=10 if participants is None else participants, partition=partition, **kwargs)
        if participant_column is not None:
            self.names = names
        features = [name for name in table.columns if name not in {target, participant_column, *ignore}]
        if not features:
            raise InputError(f"data.path {path} holds no features beside {target!r}; add columns, or ignore fewer")
        check_present(table, path, target)
        check_classes(table[target], path)
        self.classes, labels = numbered(table[target])
        self.num_classes = len(self.classes)
        if test_path is None:
            tested, rows = stratified_split(labels, TEST_SHARE, seed=0, leave_one=True)
            test, test_labels, test_path = table.iloc[tested], labels[tested], path
        else:
            rows, test = np.arange(len(table)), read_table(test_path, "data.test_path", separator=separator)
            check_columns(test, test_path, "test_path", [target, *features])
            test_labels = self._labels_of(test, target, test_path)
        train = table.iloc[rows]
        self._columns = fit_columns(train, features, categorical=categorical, missing=missing, path=path)
        check_values(train, self._columns, missing=missing, path=path)
        check_values(test, self._columns, missing=missing, path=test_path)
        for name, category, count in unknown_categories(test, self._columns):
            warnings.warn(
                f"data: {category!r} in column {name!r} of the test part does not occur in the training part, so that"
                f" none of its categories is set ({count} rows like it).",
                stacklevel=2,
            )
        self.feature_names = tuple(feature for column in self._columns for feature in column.features)
        self.input_shape = (len(self.feature_names),)
        held = None if groups is None else groups[rows]
        self._parts = self._split(train, labels[rows], held), self._split(test, test_labels, None)

    @override
    def load(self) -> tuple[Split, Split]:
        """Return the training and the test rows."""
        return self._parts

    @override
    def measure_statistics(self, inputs: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of the numbers; categories stay 0 and 1."""
        mean, std = super().measure_statistics(inputs)
        is_category = [isinstance(column, CategoryColumn) for column in self._columns for _ in column.features]
        return (
            tuple(0.0 if category else value for value, category in zip(mean, is_category, strict=True)),
            tuple(1.0 if category else value for value, category in zip(std, is_category, strict=True)),
        )

    def _split(self, table: "DataFrame", labels: IntArray, groups: IntArray | None) -> Split:
        features = np.concatenate([column.encode(table[column.name]) for column in self._columns], axis=1)
        return Split(torch.from_numpy(features), torch.from_numpy(labels), groups)

    def _labels_of(self, test: "DataFrame", target: str, path: str) -> IntArray:
        """Return the number of each test row's class."""
        check_present(test, path, target)
        number = {name: index for index, name in enumerate(self.classes)}
        found = texts(test[target]).tolist()
        unknown = sorted(set(found) - set(number))
        if unknown:
            raise InputError(f"data.test_path {path}: the target holds {unknown[0]!r}, which data.path lacks")
        return np.array([number[text] for text in found], dtype=np.int64)


def _check_unnamed(participants: int | None, partition: Partition | None, names: Sequence[str]) -> None:
    """Check that nothing but the column says who holds a row."""
    if partition is not None:
        raise InputError("data.participant_column and data.partition both say who holds a row; leave one out")
    if participants not in (None, len(names)):
        raise InputError(
            f"data.participants is {participants}, but data.participant_column names {len(names)}: "
            f"{', '.join(names[:10])}; leave data.participants out"
        )
