"""The terminal output at the end of a run."""

from pathlib import Path

from aequa_lightning.engine.checkpoint import newest_round
from aequa_lightning.report import front_table, read_run, summary_table, write_front_picture
from aequa_lightning.runtime.terminal import PlainConsole


def print_results(run_dir: Path, page: Path | None, *, unwritten: str | None = None) -> None:
    """Print a row a participant, and where rewards and report are.

    Args:
        run_dir: Folder of a run that has paid.
        page: The run's page; None: there is none.
        unwritten: Why a run from Python has no ``config.yaml``; None: it has one.
    """
    console = PlainConsole()
    console.print(summary_table(run_dir))
    console.print(f"{'rewards':8} {run_dir / 'rewards'}", soft_wrap=True)
    if page is not None:
        console.print(f"{'report':8} {page}", soft_wrap=True)
    if unwritten is not None:
        console.print(f"{'config':8} none, for {unwritten}", soft_wrap=True)


def print_stop(run_dir: Path, max_rounds: int, *, from_python: bool) -> None:
    """Print, to the standard error, after which round a run was stopped and where its state is.

    Args:
        run_dir: Its folder.
        max_rounds: Number of rounds that the run is to have.
        from_python: Whether a call of ``fit`` goes on with it; the command line says its own command.
    """
    done = newest_round(run_dir / "checkpoints")
    if done is None:
        place = f"stopped before the first round was saved; {run_dir} keeps who has trained alone"
    else:
        place = f"stopped after round {done} of {max_rounds}; saved in {run_dir / 'checkpoints'}"
    how = "; go on with fit(..., ckpt_path='last')" if from_python else ""
    PlainConsole(stderr=True).print(f"{place}{how}", soft_wrap=True)


def print_front(run_dir: Path) -> None:
    """Print the Pareto front of mean gain and spread, draw it, and print where the picture is.

    Args:
        run_dir: Folder of a run that has paid.
    """
    console, front = PlainConsole(), read_run(run_dir).front
    if front is not None:
        console.print(front_table(front))
    if (picture := write_front_picture(run_dir)) is not None:
        console.print(f"front    {picture}", soft_wrap=True)
