"""The command line: ``aequa VERB ...`` or ``python -m aequa_lightning VERB ...``."""

import errno
import os
import shlex
import sys
import time
from argparse import ArgumentError
from collections.abc import Sequence
from contextlib import nullcontext
from difflib import get_close_matches
from typing import TYPE_CHECKING

from aequa_lightning.engine.processes.signals import exiting_on_signal
from aequa_lightning.errors import InputError, RunFailed, RunInterrupted
from aequa_lightning.run_folder.files import is_full_disk
from aequa_lightning.runtime.start_up import printing_anything
from aequa_lightning.runtime.terminal import printable, say_on_terminal

if TYPE_CHECKING:
    from aequa_lightning.cli.lightning_cli import AequaCLI

# Errors of the system about files that the user may not read or write.
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
COMMANDS = ("sweep", "slurm", "federate", "allocate", "audit", "report")
VERBS = ("fit", "validate", "test", "predict", *COMMANDS)
# Verbs that a stop signal ends with status 75: called again, they continue.
STOPPED = ("fit", "sweep")
# Environment variables that number the processes which torchrun or srun has started.
TASK_NUMBERS = ("RANK", "SLURM_PROCID")
# Seconds that the other processes wait for the first one to report and end; leaving torch takes one.
REPORT_DELAY = 4.0

USAGE = """\
usage: aequa VERB [options]

train and evaluate (the options of LightningCLI; see `aequa VERB --help`)
  fit       rounds, contributions, allocation, reward checkpoints, report
  validate  accuracy on the server's validation part
  test      accuracy on the test part, of the shared model or of one reward
  predict   predictions as a CSV file

many runs
  sweep     a matrix of data, partitions, networks, mechanisms and seeds, ending in one table

on a cluster
  slurm     the script of a job that saves in time and goes on by itself; submits it on request

on several machines
  federate  the folder of a federation on Flower, where every participant keeps its data

look after a finished run
  allocate  choose the widths again and write the rewards again; trains nothing
  audit     prove of each reward file what it holds and what it does not
  report    build the page of one run again, or compare several

example: aequa fit --config configs/digits.yaml --trainer.max_rounds 5
"""


def main(args: Sequence[str] | None = None, *, cli: "type[AequaCLI] | None" = None) -> int:
    """Run one command.

    Args:
        args: Words after ``aequa``; None: those of the process, which is to end then.
        cli: A subclass of ``AequaCLI`` to run the training verbs with.

    Returns:
        The exit status: 0 done, 1 a run that failed, 2 bad input, 130 interrupted. A run that a signal stopped leaves
        through ``SystemExit(75)``.
    """
    words = list(sys.argv[1:] if args is None else args)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        from aequa_lightning import __version__

        print(f"aequa-lightning {__version__}")
        return 0
    if words[0].isalpha() and words[0] not in VERBS:
        near = get_close_matches(words[0], VERBS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        return _end(2, f"{words[0]!r} is no verb; {meant}The verbs are {', '.join(VERBS)}.")
    # Schedulers send signals to jobs, and a job trains or sweeps.
    leaving = (
        exiting_on_signal("" if _is_other_task() else f"stopped; {_how_to_go_on(words)}", to_the_end=args is None)
        if words[0] in STOPPED
        else nullcontext()
    )
    with printing_anything(), leaving:
        return _run(words, cli)


def _run(words: list[str], cli: "type[AequaCLI] | None") -> int:
    """Run a verb with its options and return the exit status."""
    if "--help" not in words:
        say_on_terminal(f"aequa {words[0]}: loading PyTorch and Lightning ...")
    try:
        if words[0] in COMMANDS:
            # Imported here: torch and lightning take seconds, and `report` needs neither.
            from aequa_lightning.commands.run import run_command

            run_command(words)
        else:
            from aequa_lightning.cli.lightning_cli import AequaCLI

            (cli or AequaCLI)(words)
    except RunInterrupted:
        if not _is_other_task():
            print(_how_to_go_on(words), file=sys.stderr)
        raise
    except RunFailed as error:
        return _end(1, error)
    except KeyboardInterrupt as error:
        return _end(130, error)
    except Exception as error:
        if is_full_disk(error):
            return _end(
                1, f"{error.filename or 'a file'} cannot be written: {error.strerror}. Make room and try again."
            )
        if isinstance(error, OSError) and error.errno in FORBIDDEN and error.filename:
            return _end(2, f"{error.filename}: {error.strerror}. Choose another place, or get the permission.")
        bad_input = _bad_input(error)
        if bad_input is None:
            raise
        if isinstance(bad_input, ArgumentError):
            # Imported here: only a mistake needs it.
            from aequa_lightning.cli.parser_errors import condense

            return _end(2, condense(str(bad_input)))
        return _end(2, bad_input)
    return 0


def _end(status: int, error: BaseException | str) -> int:
    if status == 2 and _is_other_task():
        # All processes that torchrun or srun has started find the same bad input. The first one reports it, and its end
        # makes torchrun or srun end the others.
        time.sleep(REPORT_DELAY)
    print(f"aequa: error: {printable(str(error)) or 'interrupted'}", file=sys.stderr)
    return status


def _how_to_go_on(words: Sequence[str]) -> str:
    """Return the command that continues a stopped one, in words."""
    command = ["aequa", *words]
    if words[0] != "sweep" and "--ckpt_path last" not in " ".join(words).replace("--ckpt_path=", "--ckpt_path "):
        command += ["--ckpt_path", "last"]
    # What torchrun or srun was called with is not known here.
    alike = " in the same way" if any(name in os.environ for name in TASK_NUMBERS) else ""
    return f"go on{alike} with: {printable(shlex.join(command))}"


def _is_other_task() -> bool:
    """Return whether torchrun or srun has started this process, and others before it."""
    return any(os.environ.get(name, "0") != "0" for name in TASK_NUMBERS)


def _bad_input(error: BaseException | None) -> BaseException | None:
    """Return the bad input that caused an error; None if the program is at fault.

    The parser wraps what a constructor raises in errors of its own, so the chain of causes is searched.
    """
    if error is None or isinstance(error, InputError | ArgumentError):
        return error
    return _bad_input(error.__cause__) or _bad_input(error.__context__)


if __name__ == "__main__":
    sys.exit(main())
