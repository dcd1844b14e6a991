"""The table at the end of a run's terminal output."""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from aequa_lightning.report.formatting import coefficient, plural, points, score, width_of, writing_of
from aequa_lightning.report.quantities import PARTICIPANT, title
from aequa_lightning.report.reading import read_run
from aequa_lightning.report.records import RunRecord
from aequa_lightning.report.sentences import outcome, privacy, truncation_note
from aequa_lightning.runtime.terminal import verbatim


def summary_table(run_dir: Path) -> Table:
    """Return one row a participant, the largest contributor first, and the run's fairness below.

    Args:
        run_dir: A run folder that `aequa fit` wrote.

    Returns:
        A table for ``rich``, at most 80 columns wide; what the run has not reached is a dash.

    Raises:
        InputError: When the folder is no run.
    """
    run = read_run(run_dir)
    with writing_of(run.score):
        return _table(run, run_dir)


def _table(run: RunRecord, run_dir: Path) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=0)
    table.title = Text.assemble(("Rewards of the run ", "bold"), verbatim(str(run_dir), "bold"))
    # Neither dim nor italic, as rich has it: what stands below the table is the result.
    table.title_style = table.caption_style = ""
    table.title_justify = table.caption_justify = "left"
    table.caption = _result(run)
    for key in ("name", *PARTICIPANT):
        if key == "standalone_test":
            continue
        # Two lines each, for eight columns that fit a terminal.
        heading = "participant" if key == "name" else title(key).replace(", ", ",\n")
        table.add_column(heading, no_wrap=True, justify="left" if key == "name" else "right", vertical="bottom")
    for p in run.listed:
        lost = p.gain is not None and p.gain < 0
        table.add_row(
            verbatim(p.name),
            f"{p.samples:,}",
            score(p.standalone),
            score(p.contribution),
            width_of(p),
            score(p.received),
            Text(points(p.gain), style="red" if lost else ""),
            score(p.received_test),
        )
    return table


def _result(run: RunRecord) -> Text:
    """Return the run's figures, each after its title, and a sentence on who gained."""
    notes = [note for note in (privacy(run), truncation_note(run)) if note]
    a = run.allocation
    if a is None:
        return Text("\n".join([f"{plural(len(run.rounds), 'round')}, nothing allocated yet", *notes]))
    if any(p.by_layer for p in run.participants):
        notes.append("* layers have different widths, see allocation.json")
    lines = [
        {
            "pearson": coefficient(a.pearson),
            "pearson_test": coefficient(a.pearson_test),
            "full_width": score(run.full_width),
        }
    ]
    if a.mcg is not None:
        lines.append({"mcg": points(a.mcg), "cgs": points(a.cgs, sign=False), "minimum_gain": points(a.minimum_gain)})
    result = Text()
    for line in lines:
        for place, (key, value) in enumerate(line.items()):
            result.append(" · " if place else "").append(f"{title(key)} ").append(value, "bold")
        result.append("\n")
    lost = a.minimum_gain is not None and a.minimum_gain < 0
    # Without the narrow space, at which rich would end a line.
    result.append(outcome(run).replace("\u202f", ""), "red" if lost else "")
    return result.append("".join(f"\n{note}" for note in notes))
