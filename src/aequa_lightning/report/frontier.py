"""The Pareto front of mean gain and spread, as a table for the terminal and as a picture."""

from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from aequa_lightning.report.formatting import points, writing_of
from aequa_lightning.report.reading import read_run
from aequa_lightning.report.records import Front
from aequa_lightning.report.reward_figures import front
from aequa_lightning.report.style import drawn, house_style
from aequa_lightning.run_folder.files import write_atomically

ROWS = 8


def front_table(chosen_and_front: Front, *, rows: int = ROWS) -> Table:
    """Return points spread over the front, the chosen one among them, and how far that one is from the front.

    Args:
        chosen_and_front: The front, and what was chosen.
        rows: How many points of the front at most, evenly spread over it, >= 2.
    """
    pairs, chosen = chosen_and_front.pairs, chosen_and_front.chosen
    places = np.unique(np.linspace(0, len(pairs) - 1, min(rows, len(pairs))).round().astype(int))
    shown = sorted({*(pairs[place] for place in places if not _same(pairs[place], chosen)), chosen})
    table = Table(title="what could have been chosen", caption=_caption(chosen_and_front), box=SIMPLE_HEAD, padding=0)
    table.title_justify = table.caption_justify = "left"
    table.add_column("mean gain (MCG)", justify="right")
    table.add_column("spread (CGS)", justify="right")
    table.add_column("")
    for gain, spread in shown:
        marked = (gain, spread) == chosen
        table.add_row(points(gain), points(spread, sign=False), "<- chosen" * marked, style="bold" if marked else "")
    return table


def write_front_picture(run_dir: Path) -> Path | None:
    """Draw the front of a run folder next to ``frontier.json``; None if it has a single point, and no picture.

    Args:
        run_dir: A run folder that `aequa fit` wrote.
    """
    path = run_dir / "frontier.png"
    with house_style():
        run = read_run(run_dir)
        with writing_of(run.score):
            picture = front(run)
        if picture is None:
            path.unlink(missing_ok=True)
            return None
        write_atomically(path, drawn(picture.figure, "png"))
    return path


def _caption(chosen_and_front: Front) -> str:
    gain, spread = chosen_and_front.chosen
    reaching = [least for mean, least in chosen_and_front.pairs if mean >= gain or _same((mean, least), (gain, spread))]
    excess = spread - min(reaching, default=spread)
    if excess < 5e-4:
        return "No point of the front is better."
    return f"With no less mean gain the spread could be smaller by {points(excess, sign=False)} points."


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return bool(np.allclose(one, other, rtol=0, atol=1e-9))
