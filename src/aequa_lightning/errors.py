"""The project's exceptions: what the user can mend, and what stopped a run."""

# Exit status of a run that was asked to stop.
INTERRUPTED = 75


class InputError(ValueError):
    """A value, a file or a configuration that the user gave cannot be used.

    The message names the value, the key and the remedy. The command line prints it without a traceback and ends with
    exit status 2.
    """


class RunFailed(RuntimeError):  # noqa: N818  named like RunInterrupted: what became of the run
    """A process of the run failed, died or hung, and all were ended. What was saved before is sound.

    The message says which one, where it stood and what to do. The command line prints it alone and ends with exit
    status 1.
    """


class RunInterrupted(SystemExit):
    """A signal asked the run to stop; its state has been saved.

    Its exit status is that of ``EX_TEMPFAIL``: run again with ``--ckpt_path last`` to go on.
    """

    def __init__(self) -> None:
        super().__init__(INTERRUPTED)
