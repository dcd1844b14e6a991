"""The terminal output of a sweep: its progress, and the tables at its end."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from aequa_lightning.runtime.terminal import PlainConsole
from aequa_lightning.sweep.files import figure
from aequa_lightning.sweep.matrix import Cell
from aequa_lightning.sweep.results import METRICS
from aequa_lightning.sweep.table import Comparison, Row

# A table of more rows is not printed: its file holds it.
MAX_ROWS = 40


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


def settings_table(rows: Sequence[Row]) -> Table:
    """Return a row for each setting and mechanism; the best of a setting is bold."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("setting", no_wrap=True)
    table.add_column("mechanism", no_wrap=True)
    for metric in METRICS:
        table.add_column(metric.title, justify="right", no_wrap=True)
    before: tuple[str, str, str] | None = None
    for row in rows:
        if before not in (None, row.setting):
            table.add_section()
        name = " ".join(part for part in row.setting if part != "-") if row.setting != before else ""
        before = row.setting
        cells = [
            Text(figure(row.entries[metric.key], metric), style="bold" if row.entries[metric.key].best else "")
            for metric in METRICS
        ]
        table.add_row(name, row.mechanism, *cells)
    return table


def ranks_table(
    means: Mapping[str, Mapping[str, float | None]],
    ranks: Mapping[str, Mapping[str, float]],
    comparisons: Sequence[Comparison],
    reference: str,
) -> Table:
    """Return a row a mechanism: its mean over all settings, its average rank, and how the reference does against it.

    Args:
        means: See :func:`~aequa_lightning.sweep.table.overall`.
        ranks: See :func:`~aequa_lightning.sweep.table.rank`.
        comparisons: See :func:`~aequa_lightning.sweep.table.compare`.
        reference: The mechanism that the others are compared with.
    """
    caption = f"mean over all settings (average rank); won: pairs in which {reference} has the better best accuracy"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column("mechanism", no_wrap=True)
    for title in (*(metric.title for metric in METRICS), "won", "p"):
        table.add_column(title, justify="right", no_wrap=True)
    by_accuracy = {one.mechanism: one for one in comparisons if one.metric.key == "best"}
    for mechanism, own in means.items():
        cells = []
        for metric in METRICS:
            mean = own[metric.key]
            text = "-" if mean is None else f"{mean * metric.scale:.{metric.digits}f}"
            cells.append(f"{text} ({ranks[mechanism][metric.key]:.1f})" if mechanism in ranks else text)
        one = by_accuracy.get(mechanism)
        versus = [f"{one.wins}:{one.losses}", f"{one.adjusted:.2g}"] if one else ["", ""]
        table.add_row(mechanism, *cells, *versus)
    return table
