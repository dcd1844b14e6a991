"""Partitions by the data set's own groups, and by a CSV file that assigns samples to participants."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from aequa_lightning.data.partition import FEWER, Partition, Samples
from aequa_lightning.data.preparation import IntArray
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path


def natural(groups: IntArray, participants: int, seed: int) -> list[IntArray]:
    """Keep every group together; with as many participants as groups, each holds one, in the order of their numbers.

    With more groups than participants, the groups are shuffled and dealt out in turn.

    Args:
        groups: Group of each sample, shape (samples,).
        participants: How many participants share the groups, at most as many as there are groups.
        seed: Seed of the generator, at least 0; matters only where groups are shuffled.

    Returns:
        One sorted index array per participant.

    Example:
        >>> [part.tolist() for part in natural(np.array([7, 3, 7, 3]), 2, seed=0)]
        [[1, 3], [0, 2]]
    """
    order = np.unique(groups)
    if len(order) > participants:
        order = np.random.default_rng(seed).permutation(order)
    return [np.flatnonzero(np.isin(groups, order[number::participants])) for number in range(participants)]


@dataclass(frozen=True)
class Natural(Partition):
    """Follow the data set's own groups, such as the writers of FEMNIST; see `natural`."""

    remedy: ClassVar[str] = f"{FEWER}, so that each holds more groups"

    @override
    def assign(self, samples: Samples, participants: int, seed: int, *, min_samples: int) -> list[IntArray]:
        if samples.groups is None:
            raise InputError("partition Natural follows groups, but this data set has none; choose another partition")
        existing = len(np.unique(samples.groups))
        if existing < participants:
            raise InputError(
                f"partition Natural has {existing} groups for {participants} participants; use fewer participants"
                " (data.participants)"
            )
        return natural(samples.groups, participants, seed)


@dataclass(frozen=True)
class FromFile(Partition):
    """Read the participant of each sample from a CSV file.

    The file begins with the line ``index,participant``; then each row names a sample of the training part, counted
    from 0 in the data set's order, and its participant, counted from 0. All training samples must be named once;
    validation samples of the server are taken from their participants.

    Args:
        path: The CSV file.
    """

    path: str

    remedy: ClassVar[str] = f"{FEWER}, or give that one more samples in the file"

    def __post_init__(self) -> None:
        if not user_path(self.path, "partition.path").is_file():
            raise InputError(
                f"partition.path {self.path} is no file; expected is a CSV file with the header index,participant"
            )

    @override
    def assign(self, samples: Samples, participants: int, seed: int, *, min_samples: int) -> list[IntArray]:
        holders = read_assignment(self.path, participants)
        unknown = [row for row in holders if not 0 <= row < samples.size]
        if unknown:
            raise InputError(
                f"partition.path {self.path} names sample {unknown[0]}, but the training part has samples 0 to "
                f"{samples.size - 1} ({len(unknown)} rows are of no sample); remove them"
            )
        unnamed = [row for row in samples.rows.tolist() if row not in holders]
        if unnamed:
            raise InputError(
                f"partition.path {self.path} leaves out {len(unnamed)} training samples, first {unnamed[0]}; name every"
                " sample once"
            )
        held = np.array([holders[row] for row in samples.rows.tolist()])
        return [np.flatnonzero(held == number) for number in range(participants)]


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Raise an `InputError` for a file that is no CSV."""
    try:
        yield
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"partition.path {path} cannot be read as CSV ({error}); write it in UTF-8") from error


def read_assignment(path: str, participants: int) -> dict[int, int]:
    """Read the holder of each sample from a CSV file with the header ``index,participant``.

    Args:
        path: The file.
        participants: How many participants there are; the file counts them from 0.

    Returns:
        The participant by sample number.

    Raises:
        InputError: When a row is malformed, names a participant that does not exist, or repeats a sample.
    """
    holders: dict[int, int] = {}
    with user_path(path, "partition.path").open(newline="", encoding="utf-8-sig") as file, _reading(path):
        rows = csv.reader(file)
        header = next(rows, [])
        if header != ["index", "participant"]:
            raise InputError(f"partition.path {path} begins with {','.join(header)!r}, expected 'index,participant'")
        for row in rows:
            where = f"partition.path {path}, line {rows.line_num}"
            try:
                index, holder = (int(value) for value in row)
            except ValueError:
                raise InputError(f"{where}: {','.join(row)!r} is not a pair of whole numbers") from None
            if not 0 <= holder < participants:
                raise InputError(
                    f"{where}: participant {holder} is not among the {participants} (0 to {participants - 1})"
                )
            if index in holders:
                raise InputError(f"{where}: sample {index} is named a second time")
            holders[index] = holder
    return holders
