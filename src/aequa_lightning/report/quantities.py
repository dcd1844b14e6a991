"""The quantities of a run: one key in files and in Python, and one title for readers, wherever they are shown."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from aequa_lightning.report.records import RunRecord


@dataclass(frozen=True)
class Quantity:
    """A quantity that files, terminal, report and loggers show under the same name.

    Attributes:
        title: Heading of its column, label of its axis.
        note: What is good, in few words; empty where nothing is.
    """

    title: str
    note: str = ""


PARTICIPANT = {
    "samples": Quantity("samples"),
    "standalone": Quantity("standalone"),
    "contribution": Quantity("contribution"),
    "width": Quantity("width"),
    "received": Quantity("received"),
    "gain": Quantity("gain"),
    "standalone_test": Quantity("standalone, test"),
    "received_test": Quantity("received, test"),
}
"""Quantities of a participant, by the name of the field of :class:`~aequa_lightning.report.records.Participant`."""

RUN = {
    "pearson": Quantity("Pearson", "1 is best"),
    "pearson_test": Quantity("Pearson, test", "1 is best"),
    "mcg": Quantity("mean gain (MCG)", "more is better"),
    "cgs": Quantity("spread (CGS)", "less is fairer"),
    "minimum_gain": Quantity("least gain", "more is better"),
    "mcg_test": Quantity("mean gain (MCG), test", "more is better"),
    "cgs_test": Quantity("spread (CGS), test", "less is fairer"),
    "minimum_gain_test": Quantity("least gain, test", "more is better"),
    "full_width": Quantity("full width", "more is better"),
    "best_test": Quantity("best, test", "more is better"),
    "mean_test": Quantity("mean, test", "more is better"),
}
"""Quantities of a run, by the key that files and loggers give them. Those without "test" are of the validation part."""


def title(key: str) -> str:
    """Return the title of a quantity.

    Example:
        >>> title("received_test"), title("mcg")
        ('received, test', 'mean gain (MCG)')
    """
    return (PARTICIPANT | RUN)[key].title


def run_figures(run: RunRecord) -> Mapping[str, float]:
    """Return the quantities of :data:`RUN` that a run has, by key: shares of 1 and correlations."""
    tested = [p.received_test for p in run.participants if p.received_test is not None]
    gains = [
        p.received_test - p.standalone_test
        for p in run.participants
        if p.received_test is not None and p.standalone_test is not None
    ]
    allocation = run.allocation
    found = {
        "mcg_test": statistics.fmean(gains) if gains else None,
        "cgs_test": statistics.pstdev(gains) if gains else None,
        "minimum_gain_test": min(gains, default=None),
        "full_width": run.full_width,
        "best_test": max(tested, default=None),
        "mean_test": statistics.fmean(tested) if tested else None,
        **({key: getattr(allocation, key) for key in RUN if hasattr(allocation, key)} if allocation else {}),
    }
    return {key: found[key] for key in RUN if found.get(key) is not None}
