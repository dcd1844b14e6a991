"""The style of the figures: colours for colour-blind readers and print, sizes of a two-column paper.

A colour has a role, and a role has a value on light and one on dark ground. Figures are drawn in the light values; the
page swaps each for a CSS variable (`report/vector.py`), so that one drawing serves both.
"""

import io
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLUMN = 3.4  # inches, the width of a column of a two-column paper
POINTS = 72  # points per inch
DOTS_PER_INCH = 220  # of PNG files

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1d2328",
    "muted": "#5c6670",
    "rule": "#d9dde2",
    "blue": "#0f5fb4",
    "orange": "#c8450b",
    "green": "#1a9a66",
    "violet": "#9a4a98",
    "slate": "#3a4149",
    "grey": "#8a8f96",
    # Widths from narrow to full, in rising contrast.
    "width0": "#5f95c9",
    "width1": "#4a83bd",
    "width2": "#3771ae",
    "width3": "#285f9a",
    "width4": "#1c4e83",
    "width5": "#133d6a",
    "width6": "#0b2d52",
}
DARK = {
    "paper": "#14171a",
    "ink": "#e8eaed",
    "muted": "#9aa5b1",
    "rule": "#343b43",
    "blue": "#5aa2f5",
    "orange": "#f2813a",
    "green": "#25c98f",
    "violet": "#d695cc",
    "slate": "#dfe3e8",
    "grey": "#757f86",
    "width0": "#3f76a8",
    "width1": "#4f88bb",
    "width2": "#629bcd",
    "width3": "#7caede",
    "width4": "#9ac3ea",
    "width5": "#bcd9f4",
    "width6": "#e2f0fd",
}
CATEGORIES = ("blue", "orange", "green", "violet", "slate", "grey")
MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH_STEPS = sum(role.startswith("width") for role in LIGHT)

_RC: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 7,
    "text.color": LIGHT["ink"],
    "text.parse_math": False,  # a name with dollar signs is a name
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelpad": 4,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "legend.handlelength": 1.6,
    "legend.borderaxespad": 0.2,
    "figure.facecolor": LIGHT["paper"],
    "axes.facecolor": "none",
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "svg.hashsalt": "aequa",  # the same picture gives the same bytes
}


@dataclass(frozen=True)
class Picture:
    """A figure with its file name and its alternative text."""

    name: str
    figure: Figure
    alt: str
    wide: bool = False

    def __post_init__(self) -> None:
        # One layout for PNG, PDF and SVG.
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")


def house_style() -> AbstractContextManager[None]:
    """Return the context in which figures are made, drawn on and saved; outside it matplotlib's settings stand.

    It starts from matplotlib's own defaults, not from what the user's ``matplotlibrc`` or a notebook has set.
    """
    return style.context(_RC, after_reset=True)


def new_figure(*, height: float, width: float = COLUMN) -> tuple[Figure, Axes]:
    """Return an empty figure of ``width`` x ``height`` inches, without pyplot, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def width_role(position: float) -> str:
    """Return the role that colours a width; ``position`` is 0 for the narrowest and 1 for the full width.

    Example:
        >>> width_role(0), width_role(1)
        ('width0', 'width6')
    """
    return f"width{round(position * (WIDTH_STEPS - 1))}"


def drawn(figure: Figure, format: str) -> bytes:
    """Return a figure as the bytes of a file; the same figure gives the same bytes.

    Args:
        figure: Made within :func:`house_style`, in which this is called, too.
        format: ``png`` or ``pdf``.
    """
    buffer = io.BytesIO()
    # Without a date, by which the bytes would differ.
    metadata: dict[str, Any] = {"CreationDate": None} if format == "pdf" else {}
    figure.savefig(buffer, format=format, dpi=DOTS_PER_INCH, metadata=metadata)
    return buffer.getvalue()
