"""The terminal output of a sweep: its progress, and the tables at its end."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from aequa_lightning.runtime.terminal import PlainConsole
from aequa_lightning.sweep.files import figure
from aequa_lightning.sweep.matrix import Cell
from aequa_lightning.sweep.results import METRICS
from aequa_lightning.sweep.table import Comparison, Overall, Row

# A table of more rows is not printed: its file holds it.
MAX_ROWS = 40
_HEADING = 8  # characters of a line of a column's heading, where words allow it
_UNLIMITED = 1000


class CellProgress:
    """A bar with the time that is left; where the output is no terminal, a line for every twentieth of the cells.

    Args:
        console: Where to show it.
        total: Number of cells that are to run.
    """

    def __init__(self, console: PlainConsole, total: int) -> None:
        self._console, self._total, self._ended, self._failed = console, total, 0, 0
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        # Without a thread that refreshes it: processes are forked meanwhile.
        self._bar = Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal)
        self._task = self._bar.add_task("cells", total=total)

    def __enter__(self) -> "CellProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say_stopping(self) -> None:
        """Acknowledge a stop signal."""
        self._bar.console.print(
            "stopping: the cells that are running finish their round and save; a second signal stops at once",
            soft_wrap=True,
        )

    def advance(self, cell: Cell, failure: str | None) -> None:
        """Count a cell that has ended, and say so if it failed."""
        self._ended += 1
        if failure is not None:
            self._failed += 1
            self._bar.console.print(f"failed  {cell.name}: {failure}", soft_wrap=True)
        failed = f", {self._failed} failed" if self._failed else ""
        self._bar.update(self._task, completed=self._ended, description=f"cells{failed}", refresh=True)
        if self._bar.disable and (self._ended % max(1, self._total // 20) == 0 or self._ended == self._total):
            left = self._bar.tasks[0].time_remaining or 0
            text = f"cells {self._ended}/{self._total}{failed}, {left / 60:.0f} min left"
            self._console.print(text)


def settings_table(rows: Sequence[Row], *, width: int) -> Table:
    """Return a row for each setting and mechanism; the best of a setting is bold.

    Args:
        rows: See :func:`~aequa_lightning.sweep.table.summarise`.
        width: Columns of the terminal; deviations are left out where they do not fit.
    """
    full = _settings_table(rows, deviation=True)
    if Measurement.get(PlainConsole(width=_UNLIMITED), PlainConsole(width=_UNLIMITED).options, full).maximum <= width:
        return full
    short = _settings_table(rows, deviation=False)
    _add_caption(short, "means over seeds; table.md holds the deviations, too")
    return short


def _settings_table(rows: Sequence[Row], *, deviation: bool) -> Table:
    table = _table()
    before: tuple[str, str, str] | None = None
    for row in rows:
        name = " ".join(part for part in row.setting if part != "-")
        if row.setting != before and name:
            # In a row of its own, which leaves its width to the figures.
            if before is not None:
                table.add_section()
            table.add_row(Text(name, "italic"))
        before = row.setting
        entries = [(row.entries[metric.key], metric) for metric in METRICS]
        cells = [Text(figure(entry, metric, deviation=deviation), "bold" * entry.best) for entry, metric in entries]
        table.add_row(f"  {row.mechanism}" if name else row.mechanism, *cells)
    if any(not entry.complete for row in rows for entry in row.entries.values()):
        _add_caption(table, "(n=...): defined in that many of the seeds only")
    return table


def means_table(means: Mapping[str, Mapping[str, Overall]]) -> Table:
    """Return a row a mechanism: the means over all its runs.

    Args:
        means: See :func:`~aequa_lightning.sweep.table.overall`.
    """
    table = _table()
    for mechanism, own in means.items():
        table.add_row(mechanism, *(figure(own[metric.key].entry, metric, deviation=False) for metric in METRICS))
    _add_caption(table, "means over all runs in which a figure is defined")
    return table


def ranks_table(ranks: Mapping[str, Mapping[str, float]], comparisons: Sequence[Comparison], reference: str) -> Table:
    """Return a row a mechanism: its average ranks, and how the reference does against it.

    Args:
        ranks: See :func:`~aequa_lightning.sweep.table.rank`.
        comparisons: See :func:`~aequa_lightning.sweep.table.compare`.
        reference: The mechanism that the others are compared with.
    """
    table = _table("won", "p")
    by_accuracy = {one.mechanism: one for one in comparisons if one.metric.key == METRICS[0].key}
    for mechanism, own in ranks.items():
        one = by_accuracy.get(mechanism)
        versus = [f"{one.wins}:{one.losses}", f"{one.adjusted:.2g}"] if one else ["", ""]
        table.add_row(mechanism, *(f"{own[metric.key]:.1f}" for metric in METRICS), *versus)
    _add_caption(
        table,
        f"average ranks over settings; won: pairs in which {reference} is better or worse by “{METRICS[0].title}”; "
        "p: of Wilcoxon's test, after Holm",
    )
    return table


def _table(*more: str) -> Table:
    """Return an empty table with a column for mechanisms, one for each metric and more."""
    table = Table(box=SIMPLE_HEAD, padding=0, caption_justify="left", caption_style="")
    table.add_column("mechanism", no_wrap=True, vertical="bottom")
    for heading in (*(metric.title for metric in METRICS), *more):
        # In lines of a word or two, so that the figures decide about the width.
        lines = "\n".join(wrap(heading, _HEADING))
        table.add_column(lines, justify="right", no_wrap=True, vertical="bottom")
    return table


def _add_caption(table: Table, text: str) -> None:
    table.caption = f"{table.caption}; {text}" if table.caption else text
