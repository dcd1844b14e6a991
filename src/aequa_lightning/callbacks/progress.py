"""What the terminal shows while a run goes on: one bar with the time that is left, or a line now and then."""

import sys

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from aequa_lightning.engine.callback import CollaborationCallback, RoundResult
from aequa_lightning.engine.run import Run
from aequa_lightning.runtime.terminal import PlainConsole


class Progress(CollaborationCallback):
    """Shows progress on the global rank 0.

    The unit is one participant's training, alone or in a round, as this process sees it; processes carry about equal
    loads. Where the output is no terminal, a line is printed for every tenth of the rounds.
    """

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def setup(self, run: Run) -> None:
        """Acknowledge stop signals from now on."""
        if run.is_global_zero:
            self._console = PlainConsole(file=sys.stderr)
            run.stop.announce = lambda: self._say_stopping(run)

    def on_fit_start(self, run: Run) -> None:
        """Open the bar."""
        if not run.is_global_zero:
            return
        if run.config.stacking == "auto":
            size = f"{run.stacking.size} at a time" if run.stacking.size > 1 else "one by one"
            self._console.print(f"participants train {size}: {run.stacking.reason}")
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=self._console)
            if run.standalone is not None:
                left = len(run.standalone.missing())
                self._alone = self._bar.add_task("each alone", total=-(-left // run.topology.groups))
            self._rounds = self._bar.add_task("together", total=run.config.max_rounds, completed=run.round)
            self._bar.start()

    def on_standalone_end(self, run: Run, participant: int) -> None:
        """Move the first bar."""
        if self._bar:
            self._bar.advance(self._alone)

    def on_round_end(self, run: Run, result: RoundResult) -> None:
        """Move the second bar, or print a line."""
        if not run.is_global_zero:
            return
        accuracy = result.record["validation_accuracy"]["1"]
        text = f"round {result.round}/{run.config.max_rounds}  full width {accuracy:.1%} on validation"
        if "epsilon" in result.record:
            text += f"  epsilon {result.record['epsilon']:.3g}"
        if self._bar:
            self._bar.update(self._rounds, completed=result.round, description=text)
        elif result.round % max(1, run.config.max_rounds // 10) == 0 or result.round == run.config.max_rounds:
            self._console.print(text)

    def _say_stopping(self, run: Run) -> None:
        when = "after this round" if run.round < run.config.max_rounds else "now; rewards are measured again later"
        self._console.print(f"stopping {when}; a second signal stops at once", soft_wrap=True)

    def on_fit_exit(self, run: Run) -> None:
        """Close the bar."""
        if self._bar:
            self._bar.stop()
