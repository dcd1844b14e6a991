"""The tables of a sweep: mean and deviation over seeds, ranks over settings, comparisons with one mechanism."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from aequa_lightning.sweep.results import METRICS, Metric, Result
from aequa_lightning.sweep.statistics import average_ranks, bootstrap_interval, holm, signed_rank_test

Setting = tuple[str, str, str]


@dataclass(frozen=True)
class Entry:
    """One figure of a table.

    Attributes:
        mean: Over the runs where it is defined; None: nowhere.
        deviation: Sample standard deviation over them; None with fewer than two.
        count: Number of these runs.
        runs: Number of all runs that could have it.
        best: Whether no other mechanism has a better mean in the setting.
    """

    mean: float | None
    deviation: float | None
    count: int
    runs: int
    best: bool = False

    @property
    def complete(self) -> bool:
        """Whether it is defined in every run; else it is not compared with those that are."""
        return self.count == self.runs


@dataclass(frozen=True)
class Overall:
    """A mechanism's figure over all its runs.

    Attributes:
        entry: Mean and deviation.
        interval: 95 % bootstrap interval of the mean; None with fewer than two runs in which the figure is defined.
    """

    entry: Entry
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Row:
    """One mechanism in one setting.

    Attributes:
        setting: Data, partition, network.
        mechanism: Its name.
        seeds: Number of finished cells.
        entries: By key of the metric.
    """

    setting: Setting
    mechanism: str
    seeds: int
    entries: dict[str, Entry]


@dataclass(frozen=True)
class Comparison:
    """How the reference does against one other mechanism by one metric, over pairs of the same setting and seed.

    Attributes:
        mechanism: The other one.
        metric: Which figure.
        pairs: Where both are defined.
        difference: Mean of the reference's figure minus the other's.
        interval: 95 % bootstrap interval of it.
        wins: Pairs in which the reference is better.
        losses: Pairs in which the other is better.
        p_value: Of Wilcoxon's signed-rank test.
        adjusted: The same after Holm's correction for all mechanisms that are compared by the metric.
    """

    mechanism: str
    metric: Metric
    pairs: int
    difference: float
    interval: tuple[float, float]
    wins: int
    losses: int
    p_value: float
    adjusted: float


def summarise(results: Sequence[Result]) -> list[Row]:
    """Return a row for each setting and mechanism, in the order of the results."""
    cells: dict[Setting, dict[str, list[Result]]] = {}
    for result in results:
        cells.setdefault(result.cell.setting, {}).setdefault(result.cell.mechanism, []).append(result)
    rows = []
    for setting, by_mechanism in cells.items():
        entries = {
            mechanism: {metric.key: _entry([result.metrics[metric.key] for result in found]) for metric in METRICS}
            for mechanism, found in by_mechanism.items()
        }
        for metric in METRICS:
            best = _best([row[metric.key].mean for row in entries.values() if row[metric.key].complete], metric)
            for row in entries.values():
                entry = row[metric.key]
                row[metric.key] = replace(entry, best=entry.complete and _is_best(entry.mean, best, metric))
        rows += [
            Row(setting, mechanism, len(by_mechanism[mechanism]), entries[mechanism]) for mechanism in by_mechanism
        ]
    return rows


def rank(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return each mechanism's average rank by each metric, over the settings in which all mechanisms have finished.

    A figure that is undefined in some run of a setting ranks last there, as one that is undefined in all.

    Returns:
        Rank by key of the metric, by mechanism; empty where there is no such setting.
    """
    mechanisms = list(dict.fromkeys(row.mechanism for row in rows))
    settings: dict[Setting, dict[str, Row]] = {}
    for row in rows:
        settings.setdefault(row.setting, {})[row.mechanism] = row
    complete = [found for found in settings.values() if len(found) == len(mechanisms)]
    ranks: dict[str, dict[str, float]] = {mechanism: {} for mechanism in mechanisms} if complete else {}
    for metric in METRICS if complete else ():
        entries = [[found[name].entries[metric.key] for name in mechanisms] for found in complete]
        means = [[entry.mean if entry.complete else None for entry in row] for row in entries]
        average = average_ranks(np.array(means, dtype=np.float64), largest_first=metric.largest_first)
        for mechanism, value in zip(mechanisms, average.tolist(), strict=True):
            ranks[mechanism][metric.key] = value
    return ranks


def compare(results: Sequence[Result], reference: str) -> list[Comparison]:
    """Return how one mechanism does against every other one by every metric.

    Args:
        results: All results.
        reference: Name of the one mechanism.
    """
    by_pair: dict[str, dict[tuple[Setting, int], Result]] = {}
    for result in results:
        by_pair.setdefault(result.cell.mechanism, {})[result.cell.setting, result.cell.seed] = result
    own = by_pair.get(reference, {})
    comparisons = []
    for metric in METRICS:
        differences = {
            mechanism: _differences(own, found, metric)
            for mechanism, found in by_pair.items()
            if mechanism != reference
        }
        known = {mechanism: values for mechanism, values in differences.items() if values}
        p_values = [signed_rank_test(values) for values in known.values()]
        for (mechanism, values), p_value, adjusted in zip(known.items(), p_values, holm(p_values), strict=True):
            better = [value if metric.largest_first else -value for value in values]
            comparisons.append(
                Comparison(
                    mechanism,
                    metric,
                    len(values),
                    statistics.fmean(values),
                    bootstrap_interval(values),
                    sum(value > 1e-12 for value in better),
                    sum(value < -1e-12 for value in better),
                    p_value,
                    adjusted,
                )
            )
    return comparisons


def overall(results: Sequence[Result]) -> dict[str, dict[str, Overall]]:
    """Return each mechanism's mean over all its runs by each metric, for the last table and the picture alike."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.cell.mechanism, []).append(result)
    return {
        mechanism: {metric.key: _overall([result.metrics[metric.key] for result in own]) for metric in METRICS}
        for mechanism, own in found.items()
    }


def _overall(values: Sequence[float | None]) -> Overall:
    entry = _entry(values)
    known = [value for value in values if value is not None]
    return Overall(entry, bootstrap_interval(known) if len(known) > 1 else None)


def _differences(
    own: dict[tuple[Setting, int], Result], others: dict[tuple[Setting, int], Result], metric: Metric
) -> list[float]:
    pairs = ((own[place].metrics[metric.key], others[place].metrics[metric.key]) for place in own if place in others)
    return [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]


def _entry(values: Sequence[float | None]) -> Entry:
    known = [value for value in values if value is not None]
    return Entry(
        mean=statistics.fmean(known) if known else None,
        deviation=statistics.stdev(known) if len(known) > 1 else None,
        count=len(known),
        runs=len(values),
    )


def _best(means: Sequence[float | None], metric: Metric) -> float | None:
    known = [mean for mean in means if mean is not None]
    return (max if metric.largest_first else min)(known, default=None)


def _is_best(mean: float | None, best: float | None, metric: Metric) -> bool:
    """Return whether a mean is the best to the digits that are shown."""
    if mean is None or best is None:
        return False
    return f"{mean * metric.scale:.{metric.digits}f}" == f"{best * metric.scale:.{metric.digits}f}"
