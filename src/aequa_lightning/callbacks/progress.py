"""What the terminal shows while a run goes on: one bar with the time that is left, or a line now and then."""

import sys

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from aequa_lightning.engine.callback import CollaborationCallback, RoundResult
from aequa_lightning.engine.run import Run
from aequa_lightning.runtime.terminal import PlainConsole

ROUNDS = "together"


class Progress(CollaborationCallback):
    """Shows progress on the global rank 0.

    There is a bar for each step: participants trained alone, rounds, widths measured, rewards written. Its unit is
    counted over all processes. Where the output is no terminal, a line says that a step begins, and one is printed for
    every tenth of the rounds.
    """

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._tasks: dict[str, TaskID] = {}

    def setup(self, run: Run) -> None:
        """Acknowledge stop signals, and show steps, from now on."""
        if run.is_global_zero:
            self._console = PlainConsole(file=sys.stderr)
            self._tasks = {}
            run.stop.announce = lambda: self._say_stopping(run)
            run.show = self._show

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
            self._bar.start()

    def on_round_start(self, run: Run) -> None:
        """Show the bar of the rounds when the first one begins."""
        if self._bar and ROUNDS not in self._tasks:
            self._show(ROUNDS, run.round, run.config.max_rounds)

    def _show(self, step: str, done: int, total: int) -> None:
        if self._bar is None:
            if step not in self._tasks:
                self._tasks[step] = TaskID(0)
                self._console.print(f"{step} ...")
            return
        if step not in self._tasks:
            self._tasks[step] = self._bar.add_task(step, total=total, completed=done)
        self._bar.update(self._tasks[step], completed=done, total=total)

    def on_round_end(self, run: Run, result: RoundResult) -> None:
        """Move the second bar, or print a line."""
        if not run.is_global_zero:
            return
        accuracy = result.record["validation_accuracy"]["1"]
        told = f"{accuracy:.1%}" if run.classifier.scorer.is_share else f"{run.classifier.scorer.name} {accuracy:.3f}"
        text = f"round {result.round}/{run.config.max_rounds}  full width {told} on validation"
        if "epsilon" in result.record:
            text += f"  epsilon {result.record['epsilon']:.3g}"
        if self._bar:
            self._bar.update(self._tasks[ROUNDS], completed=result.round, description=text)
        elif result.round % max(1, run.config.max_rounds // 10) == 0 or result.round == run.config.max_rounds:
            self._console.print(text)

    def _say_stopping(self, run: Run) -> None:
        when = "after this round" if run.round < run.config.max_rounds else "now; rewards are measured again later"
        self._console.print(f"stopping {when}; a second signal stops at once", soft_wrap=True)

    def on_fit_exit(self, run: Run) -> None:
        """Close the bar."""
        if self._bar:
            self._bar.stop()
