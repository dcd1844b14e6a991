"""The command line: ``aequa VERB ...`` or ``python -m aequa_lightning VERB ...``."""

import sys
from argparse import ArgumentError
from collections.abc import Sequence

from aequa_lightning.errors import InputError

FROM_A_PROCESS = f"{InputError.__module__}.{InputError.__qualname__}: "

USAGE = """\
usage: aequa VERB [options]

train and evaluate (the options of LightningCLI; see `aequa VERB --help`)
  fit       rounds, contributions, allocation, reward checkpoints, report
  validate  accuracy on the server's validation part
  test      accuracy on the test part, of the shared model or of one reward
  predict   predictions as a CSV file

look after a finished run
  allocate  choose the widths again and write the rewards again; trains nothing
  audit     prove of each reward file what it holds and what it does not
  report    build the page of one run again, or compare several

example: aequa fit --config configs/digits.yaml --trainer.max_rounds 5
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        args: Words after ``aequa``; None: those of the process.

    Returns:
        The exit status: 0 done, 2 bad input. A run that a signal stopped leaves through ``SystemExit(75)``.
    """
    words = list(sys.argv[1:] if args is None else args)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        from aequa_lightning import __version__

        print(f"aequa-lightning {__version__}")
        return 0
    try:
        if words[0] in ("allocate", "audit", "report"):
            # Imported here: torch and lightning take seconds, and `report` needs neither.
            from aequa_lightning.commands import run_command

            run_command(words)
        else:
            from aequa_lightning.cli import AequaCLI

            AequaCLI(words)
    except Exception as error:
        message = _input_error(error)
        if message is None:
            raise
        print(f"aequa: error: {message}", file=sys.stderr)
        return 2
    return 0


def _input_error(error: BaseException | None) -> str | None:
    """Return the message of the bad input behind an error; None when it is a fault of the program.

    The parser wraps what a constructor raises in errors of its own, so the chain of causes is searched.
    """
    if error is None:
        return None
    if isinstance(error, InputError | ArgumentError):
        return str(error)
    # A forked process hands its error on as the text of its traceback.
    for line in str(error).splitlines():
        if line.startswith(FROM_A_PROCESS):
            return line.removeprefix(FROM_A_PROCESS)
    return _input_error(error.__cause__) or _input_error(error.__context__)


if __name__ == "__main__":
    sys.exit(main())
