"""The matrix of a sweep: a base configuration, and the changes that each value on each axis makes."""

import copy
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aequa_lightning.errors import InputError

Overrides = dict[str, Any]

AXES = ("data", "partition", "network", "mechanism", "seed")
UNNAMED = "-"
"""The only value of an axis that the sweep leaves out."""

# Cells write no page and no programs, unless the sweep's file asks for them.
CELL_DEFAULTS: Overrides = {"trainer": {"report": False, "export_programs": False}}


@dataclass(frozen=True, order=True)
class Cell:
    """One run of a sweep: a value on each axis."""

    data: str
    partition: str
    network: str
    mechanism: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the cell, and its folder below ``cells``."""
        return "/".join([self.data, self.partition, self.network, self.mechanism, str(self.seed)])

    @property
    def setting(self) -> tuple[str, str, str]:
        """Data, partition and network: mechanisms are compared within a setting."""
        return self.data, self.partition, self.network

    @property
    def group(self) -> tuple[str, str, str, int]:
        """Cells of a group differ in the mechanism only, and share their standalone results."""
        return *self.setting, self.seed


@dataclass(frozen=True)
class Matrix:
    """All cells of a sweep and their configurations.

    Args:
        folder: The folder of the sweep.
        base: A configuration as of ``aequa fit``.
        axes: For ``data``, ``partition``, ``network`` and ``mechanism`` what each named value changes; a missing axis
            has one value that changes nothing.
        seeds: The values of the axis ``seed``: the seeds of training and of the partition.
        adjust: Changes for some cells only: each names values on some axes and, under ``set``, what they change.

    Raises:
        InputError: A name is unknown or no name for a folder.
    """

    folder: Path
    base: Overrides
    axes: Mapping[str, Mapping[str, Overrides | None]]
    seeds: Sequence[int] = (0,)
    adjust: Sequence[Overrides] = field(default=())

    def __post_init__(self) -> None:
        for axis in AXES[:-1]:
            for name, overrides in self.axes.get(axis, {}).items():
                if not isinstance(name, str) or not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", name):
                    raise InputError(f"axes.{axis}: {name!r} is no name; use letters, digits, '.', '-', '_' and '+'.")
                if not isinstance(overrides, dict | None):
                    raise InputError(f"axes.{axis}.{name} is {overrides!r}; give the keys that it changes, or null.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"axes.seed={list(self.seeds)} must hold different numbers, one at least.")
        for place, rule in enumerate(self.adjust):
            if not isinstance(rule, dict) or not isinstance(rule.get("set"), dict):
                raise InputError(f"adjust[{place}] must name values on axes and, under 'set', what they change.")
            self.select({axis: values for axis, values in rule.items() if axis != "set"}, key=f"adjust[{place}]")

    def values(self, axis: str) -> list[Any]:
        """Return the values of an axis, in order."""
        return list(self.seeds) if axis == "seed" else list(self.axes.get(axis) or {UNNAMED: None})

    def cells(self) -> list[Cell]:
        """Return all cells; those of a group follow each other."""
        data, partition, network, mechanism, seed = map(self.values, AXES)
        groups = itertools.product(data, partition, network, seed)
        return [Cell(d, p, n, m, s) for d, p, n, s in groups for m in mechanism]

    def select(self, chosen: Mapping[str, Any], *, key: str = "only") -> list[Cell]:
        """Return the cells with the chosen values.

        Args:
            chosen: A value or a list of values on some axes; all values on the others.
            key: Name of the choice in an error.

        Raises:
            InputError: There is no such axis or value.
        """
        wanted = {axis: values if isinstance(values, list) else [values] for axis, values in chosen.items()}
        for axis, values in wanted.items():
            if axis not in AXES:
                raise InputError(f"{key}: there is no axis {axis!r}; choose among {', '.join(AXES)}.")
            known = self.values(axis)
            for value in values:
                if value not in known:
                    raise InputError(f"{key}.{axis}: {value!r} is unknown; there are {', '.join(map(str, known))}.")
        return [cell for cell in self.cells() if all(getattr(cell, axis) in wanted[axis] for axis in wanted)]

    def configuration(self, cell: Cell) -> Overrides:
        """Return the configuration of a cell, as of ``aequa fit``, but for the folders."""
        layers = [CELL_DEFAULTS, self.base, *(self.axes.get(axis, {}).get(getattr(cell, axis)) for axis in AXES[:-1])]
        layers += [rule["set"] for rule in self.adjust if _applies(rule, cell)]
        layers.append({"seed_everything": cell.seed, "data": {"init_args": {"partition_seed": cell.seed}}})
        configuration: Overrides = {}
        for layer in layers:
            configuration = merge(configuration, layer or {})
        return configuration

    def run_folder(self, cell: Cell) -> Path:
        """Return the run folder of a cell."""
        return self.folder / "cells" / cell.name

    def runnable(self, cell: Cell) -> Overrides:
        """Return the configuration of a cell with its folders."""
        folders = {"run_dir": str(self.run_folder(cell)), "standalone_dir": str(self.folder / "standalone")}
        return merge(self.configuration(cell), {"trainer": folders})


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Overrides:
    """Return a configuration with changes: blocks are merged key by key, everything else is replaced.

    A block that names another class replaces the former one with its arguments.

    Example:
        >>> merge({"data": {"class_path": "A", "init_args": {"x": 1, "y": 2}}}, {"data": {"init_args": {"x": 3}}})
        {'data': {'class_path': 'A', 'init_args': {'x': 3, 'y': 2}}}
        >>> merge({"data": {"class_path": "A", "init_args": {"x": 1}}}, {"data": {"class_path": "B"}})
        {'data': {'class_path': 'B'}}
    """
    merged = copy.deepcopy(dict(base))
    for key, change in changes.items():
        former = merged.get(key)
        if isinstance(former, dict) and isinstance(change, dict) and _same_class(former, change):
            merged[key] = merge(former, change)
        else:
            merged[key] = copy.deepcopy(change)
    return merged


def _same_class(former: Overrides, change: Overrides) -> bool:
    return "class_path" not in change or change["class_path"] == former.get("class_path")


def _applies(rule: Overrides, cell: Cell) -> bool:
    wanted = {axis: values if isinstance(values, list) else [values] for axis, values in rule.items() if axis != "set"}
    return all(getattr(cell, axis) in values for axis, values in wanted.items())
