"""A matplotlib figure as inline SVG: colours become CSS variables, marks of participants get hover texts."""

import io
import re
from collections.abc import Mapping
from html import escape

from markupsafe import Markup

from aequa_lightning.report.style import DARK, LIGHT, POINTS, Picture, house_style
from aequa_lightning.runtime.terminal import printable

_VARIABLES = {colour: f"var(--{role})" for role, colour in reversed(LIGHT.items())}


def css_variables(ground: str) -> str:
    """Return the palette for the ``light`` or the ``dark`` ground as CSS declarations.

    Example:
        >>> css_variables("dark").split(";")[0]
        '--paper: #14171a'
    """
    palette = {"light": LIGHT, "dark": DARK}[ground]
    return " ".join(f"--{role}: {colour};" for role, colour in palette.items())


def inline_svg(picture: Picture, hover: Mapping[int, str]) -> Markup:
    """Return the picture as an SVG element for a page.

    Args:
        picture: A picture drawn in the light palette.
        hover: Text shown for a participant, by the number in its artists' ids ``who-NUMBER``.

    Returns:
        One ``<svg>`` without fixed colours, with ids of its own, named by the picture's alt text.
    """
    buffer = io.StringIO()
    with house_style():
        picture.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # Tags alone, and never the text between them, which holds names.
    svg = re.sub(r"<[^>]*>", lambda tag: _rewritten(tag[0], picture.name, hover), svg)
    # Inside HTML the tag needs neither namespaces nor a size of its own.
    width, height = picture.figure.get_size_inches() * POINTS
    opening = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(printable(picture.alt))}">'
    return Markup(opening + svg[svg.index(">") + 1 :])


def _rewritten(tag: str, name: str, hover: Mapping[int, str]) -> str:
    """Return a tag of matplotlib's with the page's colours and font, and ids that begin with the picture's name."""
    who = re.fullmatch(r'<g id="who-(\d+)">', tag)
    if who:
        title = escape(printable(hover.get(int(who[1]), "")))
        return f'<g class="who" data-who="{who[1]}"><title>{title}</title>'
    tag = re.sub("|".join(_VARIABLES), lambda match: _VARIABLES[match[0]], tag)
    tag = re.sub(r" font-family: [^;\"]*;", "", tag)
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    return re.sub(r'(url\(#|href="#)', rf"\1{name}-", tag)
