"""The picture of a sweep: every mechanism by every metric, over all settings and seeds."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aequa_lightning.report.axes import name_rows, rows_height
from aequa_lightning.report.style import COLUMN, LIGHT, drawn, house_style
from aequa_lightning.run_folder.files import write_atomically
from aequa_lightning.sweep.results import METRICS, Result
from aequa_lightning.sweep.statistics import bootstrap_interval


def draw_sweep(results: Sequence[Result], folder: Path, *, reference: str) -> Path:
    """Draw the mean of each metric with its 95 % bootstrap interval: a row a mechanism, a panel a metric.

    Args:
        results: Of all finished cells.
        folder: ``sweep.png`` and ``sweep.pdf`` are written there.
        reference: The mechanism that is set off from the others.

    Returns:
        The PNG file.
    """
    names = list(dict.fromkeys(result.cell.mechanism for result in results))
    with house_style():
        figure = Figure(figsize=(2 * COLUMN, rows_height(len(names)) + 0.5), layout="constrained")
        panels = figure.subplots(1, len(METRICS), sharey=True)
        rows = name_rows(panels[0], names)
        for panel, metric in zip(panels, METRICS, strict=True):
            for row, name in zip(rows, names, strict=True):
                found = [result.metrics[metric.key] for result in results if result.cell.mechanism == name]
                values = [value * metric.scale for value in found if value is not None]
                if values:
                    colour = LIGHT["blue" if name == reference else "slate"]
                    panel.hlines(row, *bootstrap_interval(values), color=colour, lw=1.2)
                    panel.plot(statistics.fmean(values), row, "o", ms=3.8, color=colour)
            panel.set_title(metric.title, fontsize=7)
            panel.xaxis.set_major_locator(MaxNLocator(4))
            panel.tick_params(axis="y", length=0)
            panel.grid(axis="x", color=LIGHT["rule"], lw=0.5)
        for format in ("png", "pdf"):
            write_atomically(folder / f"sweep.{format}", drawn(figure, format))
    return folder / "sweep.png"
