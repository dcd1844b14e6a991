from fractions import Fraction
from math import ceil

import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable.widths import breakpoints, channels, grid


@pytest.mark.parametrize("count", [1, 6, 30, 84, 120, 2048])
@pytest.mark.parametrize("percent", [1, 10, 25, 30, 61, 99, 100])
def test_widths_channels_equal_exact_rational_rounding(count: int, percent: int) -> None:
    assert channels(count, percent / 100) == ceil(Fraction(percent, 100) * count)


def test_widths_whole_units_are_kept() -> None:
    for kept in range(1, 101):
        count = channels(96, kept / 100, 32)
        assert count % 32 == 0
        assert 0 <= count - kept / 100 * 96 < 32


@pytest.mark.parametrize(("count", "unit"), [(7, 1), (84, 1), (96, 32), (64, 16)])
def test_widths_breakpoints_are_the_largest_widths_of_their_counts(count: int, unit: int) -> None:
    points = breakpoints(count, unit)
    assert [channels(count, point, unit) for point in points] == list(range(unit, count + 1, unit))
    assert all(channels(count, point + 1e-6, unit) > channels(count, point, unit) for point in points[:-1])


@pytest.mark.parametrize("bad", [0.0, -0.5, 1.5, float("nan"), float("inf")])
def test_widths_grid_of_impossible_widths_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="widths"):
        grid([1, bad])


def test_widths_grid_needs_the_full_width() -> None:
    with pytest.raises(InputError, match=r"add 1\.0"):
        grid([0.5, 0.25])
