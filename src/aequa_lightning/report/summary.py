"""The table at the end of a run's terminal output."""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from aequa_lightning.report.formatting import coefficient, percent, plural, points, width_of
from aequa_lightning.report.reading import read_run
from aequa_lightning.report.records import RunRecord
from aequa_lightning.report.sentences import privacy, truncation_note
from aequa_lightning.runtime.terminal import verbatim


def summary_table(run_dir: Path) -> Table:
    """Return one row a participant, the largest contributor first, and the run's fairness below.

    Args:
        run_dir: A run folder that `aequa fit` wrote.

    Returns:
        A table for ``rich``; what the run has not reached is a dash.

    Raises:
        InputError: When the folder is no run.
    """
    run = read_run(run_dir)
    # Narrow enough for a terminal of 80 columns.
    caption = "\n".join(line for line in (_caption(run), privacy(run), truncation_note(run)) if line)
    title = verbatim(str(run_dir), "table.title")
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, padding=0)
    table.title_justify = table.caption_justify = "left"
    table.add_column("participant", no_wrap=True)
    for column in ("samples", "standalone", "contribution", "width", "received", "test", "gain"):
        table.add_column(column, justify="right")
    for p in run.listed:
        lost = p.gain is not None and p.gain < 0
        table.add_row(
            verbatim(p.name),
            f"{p.samples:,}",
            percent(p.standalone),
            percent(p.contribution),
            width_of(p),
            percent(p.received),
            percent(p.received_test),
            Text(points(p.gain), style="red" if lost else ""),
        )
    return table


def _caption(run: RunRecord) -> str:
    if run.allocation is None:
        return f"{plural(len(run.rounds), 'round')}, nothing allocated yet"
    a = run.allocation
    star = "\n* layers have different widths, see allocation.json" * any(p.by_layer for p in run.participants)
    reached = f"full width {percent(run.full_accuracy)} · Pearson {coefficient(a.pearson)}"
    if a.mcg is None:
        return f"{reached} · nobody trained alone, so gains are not known{star}"
    return (
        f"{reached} (test {coefficient(a.pearson_test)}) · mean gain {points(a.mcg)} (MCG), "
        f"spread {points(a.cgs, sign=False)} (CGS), least {points(a.minimum_gain)}{star}"
    )
