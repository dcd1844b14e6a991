"""The picture of a sweep: every mechanism by every metric, over all settings and seeds."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aequa_lightning.report.axes import name_rows, rows_height
from aequa_lightning.report.style import COLUMN, LIGHT, drawn, house_style
from aequa_lightning.run_folder.files import write_atomically
from aequa_lightning.sweep.results import METRICS, Metric, Result
from aequa_lightning.sweep.table import overall

CAPTION = (
    "Mean over all runs in which a figure is defined (n, where not in all), and its 95 % bootstrap interval. "
    "Arrows point to what is better."
)


def draw_sweep(results: Sequence[Result], folder: Path, *, reference: str) -> Path:
    """Draw the mean of each metric with its 95 % bootstrap interval: a row a mechanism, a panel a metric.

    Args:
        results: Of all finished cells.
        folder: ``sweep.png`` and ``sweep.pdf`` are written there.
        reference: The mechanism that is set off from the others.

    Returns:
        The PNG file.
    """
    with house_style():
        figure = picture(results, reference=reference)
        for format in ("png", "pdf"):
            write_atomically(folder / f"sweep.{format}", drawn(figure, format))
    return folder / "sweep.png"


def picture(results: Sequence[Result], *, reference: str) -> Figure:
    """Return the figure; to be called within :func:`~aequa_lightning.report.style.house_style`."""
    means = overall(results)
    figure = Figure(figsize=(2 * COLUMN, rows_height(len(means)) + 0.7), layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    rows = name_rows(panels[0], list(means))
    for panel, metric in zip(panels, METRICS, strict=True):
        for row, (name, own) in zip(rows, means.items(), strict=True):
            found = own[metric.key]
            if found.entry.mean is None:
                place = {"transform": panel.get_yaxis_transform(), "ha": "center", "va": "center"}
                panel.text(0.5, row, "undefined", size=5.5, color=LIGHT["muted"], **place)
                continue
            colour = LIGHT["blue" if name == reference else "slate"]
            mean = found.entry.mean * metric.scale
            if found.interval is not None:
                panel.hlines(row, *(bound * metric.scale for bound in found.interval), color=colour, lw=1.2)
            panel.plot(mean, row, "o", ms=3.8, color=colour)
            if not found.entry.complete:
                place = {"xytext": (0, 3.5), "textcoords": "offset points", "ha": "center", "va": "bottom"}
                panel.annotate(f"n = {found.entry.count}", (mean, row), size=5.5, color=colour, **place)
        panel.set_title(_heading(metric), fontsize=6.5)
        panel.xaxis.set_major_locator(MaxNLocator(3))
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x", color=LIGHT["rule"], lw=0.5)
        panel.margins(x=0.15)
    figure.supxlabel(CAPTION, fontsize=6, color=LIGHT["muted"])
    return figure


def _heading(metric: Metric) -> str:
    """Return a panel's title with its unit and an arrow to what is better.

    Example:
        >>> print(_heading(METRICS[5]))
        spread
        (CGS), test
        points ←
    """
    unit = f"{metric.unit} " if metric.unit else ""
    return "\n".join([*wrap(metric.title, 12), f"{unit}{'→' if metric.largest_first else '←'}"])
