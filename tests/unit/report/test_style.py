"""The palette: readable on both grounds, and told apart by every kind of colour vision."""

from itertools import combinations

import numpy as np
import pytest

from aequa_lightning.report.style import CATEGORIES, DARK, LIGHT, WIDTH_STEPS, width_role

# Colour vision deficiency at full severity in linear RGB (Machado, Oliveira, Fernandes 2009, table 1).
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
GROUNDS = [pytest.param(LIGHT, id="light"), pytest.param(DARK, id="dark")]


def linear_rgb(colour: str) -> np.ndarray:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    dark, bright = sorted(float(linear_rgb(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (first, second))
    return (bright + 0.05) / (dark + 0.05)


def seen(colour: str, vision: str) -> np.ndarray:
    """Return the CIELAB coordinates of a colour as an eye with this vision sees it."""
    linear = np.clip(np.asarray(VISION[vision]) @ linear_rgb(colour), 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.maximum(to_xyz @ linear / np.array([0.9505, 1.0, 1.089]), 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("ground", GROUNDS)
def test_text_and_marks_stand_out(ground: dict[str, str]) -> None:
    paper = ground["paper"]
    # Text needs 4.5 : 1, graphical objects 3 : 1 (WCAG 2.2, success criteria 1.4.3 and 1.4.11).
    assert min(contrast(ground[role], paper) for role in ("ink", "muted", "blue", "orange")) >= 4.5
    marks = [*CATEGORIES, *(f"width{step}" for step in range(WIDTH_STEPS))]
    assert min(contrast(ground[role], paper) for role in marks) >= 3


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("ground", GROUNDS)
def test_categories_differ_for_every_colour_vision(ground: dict[str, str], vision: str) -> None:
    colours = [seen(ground[role], vision) for role in CATEGORIES]
    # A distance of 2.3 is just noticeable; six times that is plain.
    assert min(np.linalg.norm(a - b) for a, b in combinations(colours, 2)) > 13.8


@pytest.mark.parametrize("ground", GROUNDS)
def test_wider_networks_stand_out_more(ground: dict[str, str]) -> None:
    steps = [contrast(ground[width_role(position)], ground["paper"]) for position in np.linspace(0, 1, WIDTH_STEPS)]
    assert steps == sorted(steps)
    assert len(set(steps)) == WIDTH_STEPS


def test_every_colour_of_the_light_ground_has_its_own_role_and_a_dark_twin() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert len(set(LIGHT.values())) == len(LIGHT)


def test_contrast_agrees_with_published_ratios() -> None:
    # Greys that the WCAG's techniques cite: #767676 is the lightest that passes 4.5 : 1 on white, #949494 passes 3 : 1.
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)
    assert contrast("#949494", "#ffffff") == pytest.approx(3.03, abs=0.005)
