"""Writes the tables of a sweep as CSV, Markdown and LaTeX."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aequa_lightning.run_folder.csv_files import csv_of
from aequa_lightning.run_folder.files import write_atomically
from aequa_lightning.sweep.matrix import AXES, UNNAMED
from aequa_lightning.sweep.results import METRICS, Metric, Result
from aequa_lightning.sweep.table import Comparison, Entry, Row

SETTING_AXES = AXES[:3]


def write_tables(
    folder: Path,
    results: Sequence[Result],
    rows: Sequence[Row],
    ranks: Mapping[str, Mapping[str, float]],
    comparisons: Sequence[Comparison],
) -> None:
    """Write ``results.csv``, ``table.csv``, ``table.md``, ``table.tex``, ``ranks.csv`` and ``comparison.csv``.

    Args:
        folder: The sweep's folder.
        results: Of all finished cells.
        rows: See :func:`~aequa_lightning.sweep.table.summarise`.
        ranks: See :func:`~aequa_lightning.sweep.table.rank`.
        comparisons: See :func:`~aequa_lightning.sweep.table.compare`.
    """
    keys = [metric.key for metric in METRICS]
    tables = {
        "results": [{**asdict(r.cell), **r.metrics, "seconds": r.seconds} for r in results],
        "table": [_plain(row) for row in rows],
        "ranks": [{"mechanism": name, **{key: own[key] for key in keys}} for name, own in ranks.items()],
        "comparison": [_compared(comparison) for comparison in comparisons],
    }
    for name, table in tables.items():
        write_atomically(folder / f"{name}.csv", csv_of(table).encode())
    write_atomically(folder / "table.md", markdown(rows).encode())
    write_atomically(folder / "table.tex", latex(rows).encode())


def markdown(rows: Sequence[Row]) -> str:
    """Return the table as Markdown; the best of each setting is bold."""
    axes = _axes(rows)
    lines = [
        "| " + " | ".join([*axes, "mechanism", *(metric.title for metric in METRICS)]) + " |",
        "|" + "---|" * (len(axes) + 1) + "--:|" * len(METRICS),
    ]
    for row in rows:
        cells = [figure(row.entries[metric.key], metric) for metric in METRICS]
        bold = [
            f"**{cell}**" if row.entries[metric.key].best else cell for cell, metric in zip(cells, METRICS, strict=True)
        ]
        lines.append("| " + " | ".join([*_values(row, axes), row.mechanism, *bold]) + " |")
    return "\n".join(lines) + "\n"


def latex(rows: Sequence[Row]) -> str:
    """Return the table as LaTeX (``longtable`` and ``booktabs``); a rule divides settings, the best is bold."""
    axes = _axes(rows)
    head = " & ".join([*axes, "mechanism", *(metric.title for metric in METRICS)])
    lines = [rf"\begin{{longtable}}{{{'l' * (len(axes) + 1)}{'r' * len(METRICS)}}}", r"\toprule", rf"{head} \\"]
    lines.append(r"\midrule \endhead")
    before: tuple[str, str, str] | None = None
    for row in rows:
        if before not in (None, row.setting):
            lines.append(r"\midrule")
        before = row.setting
        cells = []
        for metric in METRICS:
            text = figure(row.entries[metric.key], metric).replace("-", "$-$").replace("±", r"$\pm$")
            cells.append(rf"\textbf{{{text}}}" if row.entries[metric.key].best else text)
        names = [name.replace("_", r"\_") for name in [*_values(row, axes), row.mechanism]]
        lines.append(" & ".join([*names, *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{longtable}"]) + "\n"


def figure(entry: Entry, metric: Metric, *, deviation: bool = True) -> str:
    """Return mean and standard deviation as text, and of how many runs where it is not defined in all.

    Args:
        entry: The figure.
        metric: Which one it is.
        deviation: Whether to write the deviation.

    Example:
        >>> figure(Entry(0.8126, 0.0149, count=3, runs=3), METRICS[0])
        '81.3±1.5'
        >>> figure(Entry(0.9951, None, count=1, runs=2), METRICS[2])
        '0.995 (n=1)'
    """
    if entry.mean is None:
        return "-"
    text = f"{entry.mean * metric.scale:.{metric.digits}f}"
    if deviation and entry.deviation is not None:
        text += f"±{entry.deviation * metric.scale:.{metric.digits}f}"
    return text if entry.complete else f"{text} (n={entry.count})"


def _axes(rows: Sequence[Row]) -> list[str]:
    """Return the axes of a setting that the sweep has."""
    return [axis for place, axis in enumerate(SETTING_AXES) if any(row.setting[place] != UNNAMED for row in rows)]


def _values(row: Row, axes: Sequence[str]) -> list[str]:
    return [row.setting[SETTING_AXES.index(axis)] for axis in axes]


def _plain(row: Row) -> dict[str, Any]:
    content: dict[str, Any] = dict(zip(SETTING_AXES, row.setting, strict=True))
    content |= {"mechanism": row.mechanism, "seeds": row.seeds}
    for key, entry in row.entries.items():
        content |= {key: entry.mean, f"{key}_std": entry.deviation, f"{key}_n": entry.count}
    return content


def _compared(comparison: Comparison) -> dict[str, Any]:
    low, high = comparison.interval
    return {
        "metric": comparison.metric.key,
        "mechanism": comparison.mechanism,
        "pairs": comparison.pairs,
        "difference": comparison.difference,
        "low": low,
        "high": high,
        "wins": comparison.wins,
        "losses": comparison.losses,
        "p": comparison.p_value,
        "p_holm": comparison.adjusted,
    }
