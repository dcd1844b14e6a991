"""What several figures do to their axes: percentages, rows of names, labels at the ends of curves."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aequa_lightning.report.style import POINTS
from aequa_lightning.report.words import short_names

_MARGIN = 0.75  # inches above and below rows: title, ticks and label
_END_GAP = 0.065  # least distance between the labels of two curves, as a share of the axis


def in_percent(*axes: Axis, unit: str = "%") -> None:
    """Label axes that run over 0..1 in percent, or in percentage points with another ``unit``."""
    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}{unit}".replace("-", "−")))
        axis.set_major_locator(MaxNLocator(nbins=6))


def in_integers(axis: Axis, *, most: int = 8) -> None:
    """Label an axis with at most ``most`` whole numbers."""
    axis.set_major_locator(MaxNLocator(nbins=most, integer=True))


def row_pitch(rows: int) -> float:
    """Return the height of a row in points, smaller where many rows have to fit a page.

    Example:
        >>> row_pitch(10), row_pitch(40)
        (13.0, 10.0)
    """
    return min(max(400 / rows, 5.0), 13.0)


def rows_height(rows: int) -> float:
    """Return the height in inches of a figure of ``rows`` rows."""
    return row_pitch(rows) * rows / POINTS + _MARGIN


def name_rows(axes: Axes, names: Sequence[str]) -> range:
    """Name the rows of an axes, the first on top, and return their positions."""
    rows = range(len(names) - 1, -1, -1)
    shown = short_names(names)
    axes.set_yticks(list(rows), shown, size=min(7.0, 0.8 * row_pitch(len(names))))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.7, len(names) - 0.3)
    common = names[0][: names[0].find(shown[0])].rstrip("-_ ")
    axes.set_ylabel(common)
    return rows


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write a label beside the end of each curve, moved apart where curves end close together.

    Args:
        axes: Axes whose limits are final.
        ends: Last value, label and colour of each curve, in the order of the labels from the bottom up; where there
            is no room for all, every second one is left out.
    """
    while len(ends) > 1 / _END_GAP:
        ends = ends[::-1][::2][::-1]
    low, high = axes.get_ylim()
    wanted = (np.array([value for value, _, _ in ends]) - low) / (high - low)
    for at, start, (_, text, colour) in zip(_apart(wanted), wanted, ends, strict=True):
        axes.plot([1.01, 1.05], [start, at], transform=axes.transAxes, color=colour, lw=0.5, clip_on=False)
        axes.text(1.065, at, text, transform=axes.transAxes, va="center", color=colour, size=6.5)


def _apart(positions: np.ndarray) -> np.ndarray:
    """Return ordered positions at least a gap apart and none above 1, each near the one wanted."""
    moved = positions.copy()
    for _ in range(2):
        for i in range(1, len(moved)):
            moved[i] = max(moved[i], moved[i - 1] + _END_GAP)
        excess = moved[-1] - 1.0
        if excess > 0:
            moved[-1] = 1.0
            for i in range(len(moved) - 2, -1, -1):
                moved[i] = min(moved[i], moved[i + 1] - _END_GAP)
    return moved
