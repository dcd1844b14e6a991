"""The glossary lists every figure of a run under its name and its key."""

import re

from aequa_lightning.report.quantities import PARTICIPANT, RUN
from tests.helpers.command import REPOSITORY


def test_every_figure_stands_in_the_glossary() -> None:
    page = (REPOSITORY / "docs" / "glossary.md").read_text().split("## Figures\n")[1].split("\n## ")[0]
    told = {key: name for name, key in re.findall(r"^\| ([^|]+) \| `(\w+)`", page, re.MULTILINE)}
    figures = {key: quantity.title for key, quantity in (PARTICIPANT | RUN).items() if key != "samples"}
    assert told == figures
