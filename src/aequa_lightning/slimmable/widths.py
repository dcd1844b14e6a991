"""Arithmetic of widths: the channels that a width keeps, and the widths at which their number changes."""

import math
from collections.abc import Iterable, Mapping

from aequa_lightning.errors import InputError

Width = float | Mapping[str, float]
"""One share of the channels for all layers, or shares of some layers by name; layers that are not named stay whole."""

_FUZZ = 1e-7  # in channels: 0.1 * 30 is 3.0000000000000004 in floating point and must still be 3


def channels(count: int, width: float, unit: int = 1) -> int:
    """Return how many of ``count`` channels the width keeps: ``unit * ceil(width * count / unit)``.

    Rounding up makes the kept channels of a smaller width a subset of those of a larger one, whatever the widths.

    Args:
        count: Channels at full width, a multiple of ``unit``.
        width: Share of the channels, in (0, 1].
        unit: Channels that can only be kept or dropped together, such as those of a group or of an attention head.

    Returns:
        Channels kept, a multiple of ``unit`` between ``unit`` and ``count``.

    Example:
        >>> channels(64, 0.5), channels(30, 0.1), channels(84, 0.61)
        (32, 3, 52)
        >>> channels(64, 0.3, 16)
        32
    """
    return min(count, unit * math.ceil(width * count / unit - _FUZZ))


def share(width: Width, layer: str) -> float:
    """Return which share of a layer's channels a width keeps.

    Example:
        >>> share(0.5, "head"), share({"head": 0.25}, "head"), share({"head": 0.25}, "stem")
        (0.5, 0.25, 1.0)
    """
    return width.get(layer, 1.0) if isinstance(width, Mapping) else width


def breakpoints(count: int, unit: int = 1) -> list[float]:
    """Return the largest width of every distinct channel count, ascending; the last one is 1.

    Example:
        >>> breakpoints(6, 2)
        [0.3333333333333333, 0.6666666666666666, 1.0]
    """
    return [kept / count for kept in range(unit, count + 1, unit)]


def grid(widths: Iterable[float]) -> tuple[float, ...]:
    """Return the widths as a grid: descending, without repetition, from full width on.

    Args:
        widths: Shares in (0, 1], in any order; 1 must be among them.

    Raises:
        InputError: When a width lies outside (0, 1] or is not finite, or when full width is missing.

    Example:
        >>> grid([0.25, 1, 0.5])
        (1.0, 0.5, 0.25)
    """
    values = tuple(sorted({float(width) for width in widths}, reverse=True))
    for width in values:
        if not 0 < width <= 1:  # NaN compares false, so it ends here too
            raise InputError(f"widths: {width} is not a width; a width is a share of the channels in (0, 1]")
    if not values or values[0] != 1.0:
        raise InputError(f"widths: {list(values)} lacks the full width; add 1.0")
    return values
