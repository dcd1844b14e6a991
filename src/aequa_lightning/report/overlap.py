"""Points of a scatter that would cover each other are moved beside each other."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from aequa_lightning.report.style import POINTS

_STEPS = 200
_MOST = 800  # points; more are a cloud in any case, and take time


def set_apart(places: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Move points away from each other until no two are much closer than a distance; points that are apart stay.

    Args:
        places: (points, 2).
        distance: What two points should lie apart, > 0.

    Returns:
        (points, 2). Points in the same place come to lie in a row.

    Example:
        >>> set_apart(np.array([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0]]), 2.0).round(2).tolist()
        [[-1.0, 0.0], [1.0, 0.0], [9.0, 0.0]]
    """
    moved = np.array(places, dtype=np.float64)
    order = np.sign(np.subtract.outer(np.arange(len(moved)), np.arange(len(moved))))
    for _ in range(_STEPS):
        between = moved[:, None] - moved[None]
        gaps = np.hypot(between[..., 0], between[..., 1])
        near = (gaps < distance * (1 - 1e-6)) & (order != 0)
        if not near.any():
            break
        # Points in one place have no direction: to the left and to the right, in their order.
        same = gaps < 1e-9 * distance
        between[same] = np.stack([order[same], np.zeros(same.sum())], axis=1)
        steps = np.where(near, distance - gaps, 0.0) / 2 / np.where(same, 1.0, gaps)
        # The mean over the neighbours: their sum would overshoot in a crowd.
        moved += (steps[..., None] * between).sum(axis=1) / near.sum(axis=1).clip(1)[:, None]
    return moved


def set_markers_apart(axes: Axes, *, diameter: float) -> None:
    """Move the markers of an axes' series that are not joined by lines, so that each is seen.

    Args:
        axes: Axes on which everything is drawn; their limits stay as they are now.
        diameter: That of the markers, in points.
    """
    series = [line for line in axes.lines if line.get_linestyle() == "None"]
    points = [np.asarray(line.get_xydata()) for line in series]
    counts = [len(own) for own in points]
    if not 0 < sum(counts) <= _MOST:
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # places the axes, whose size the points need
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    places = axes.transData.transform(np.concatenate(points))
    moved = set_apart(places, 0.8 * diameter * figure.dpi / POINTS)
    data = axes.transData.inverted().transform(moved)
    for line, own in zip(series, np.split(data, np.cumsum(counts)[:-1]), strict=True):
        line.set_data(*own.T)
