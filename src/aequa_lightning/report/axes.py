"""Axes of the figures: percentages, rows of names, labels at the ends of curves."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aequa_lightning.report.formatting import is_in_percent, short_names
from aequa_lightning.report.style import POINTS
from aequa_lightning.runtime.terminal import printable

_MARGIN = 0.75  # inches above and below rows: title, ticks and label
_STEPS = (1, 2, 5, 10)  # ticks at round numbers
_END_GAP = 0.055  # least distance between the labels of two curves, as a share of the axis


def in_percent(*axes: Axis, unit: str = "%") -> None:
    """Label axes of scores as the score is written, or of differences in points with another ``unit``."""
    if unit == "%" and not is_in_percent():
        return
    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}{unit}".replace("-", "−")))
        axis.set_major_locator(MaxNLocator(nbins=6, steps=_STEPS))


def in_integers(axis: Axis, *, most: int = 8) -> None:
    """Label an axis with at most ``most`` whole numbers."""
    axis.set_major_locator(MaxNLocator(nbins=most, integer=True, steps=_STEPS))


def row_pitch(rows: int) -> float:
    """Return the height of a row in points, smaller where many rows have to fit a page.

    Example:
        >>> row_pitch(10), row_pitch(40)
        (13.0, 7.5)
    """
    return min(max(300 / rows, 5.0), 13.0)


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
    first = printable(names[0])
    axes.set_ylabel(first[: first.find(shown[0])].rstrip("-_ "))
    return rows


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write a label beside the end of each curve; of labels that would touch, the earlier one stays.

    Args:
        axes: Axes whose limits are final.
        ends: Last value, label and colour of each curve, the most important first.
    """
    low, high = axes.get_ylim()
    taken: list[float] = []
    for value, text, colour in ends:
        at = (value - low) / (high - low)
        if all(abs(at - other) >= _END_GAP for other in taken):
            taken.append(at)
            axes.text(1.015, at, text, transform=axes.transAxes, va="center", color=colour, size=6.5)
