"""Protection against the environment at start-up: matplotlib's backend, encodings of the terminal.

Imports no torch, which takes seconds.
"""

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from aequa_lightning.runtime.terminal import printable

BACKEND = "MPLBACKEND"
# Error handlers of streams that raise for characters that the encoding lacks; the second is used in the C locale.
RAISING = ("strict", "surrogateescape")


def import_matplotlib() -> None:
    """Import matplotlib, also where ``MPLBACKEND`` names a backend that is not installed.

    Processes that a notebook starts inherit the notebook's backend, which their own packages need not include;
    matplotlib, and all that import it, would then raise. Figures are drawn to files here, and need no backend.
    """
    name = os.environ.pop(BACKEND, None)
    if name is None:
        return  # Without the variable, matplotlib can be imported later.
    try:
        import matplotlib

        # As matplotlib does when it is imported.
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = name
    finally:
        os.environ[BACKEND] = name


@contextmanager
def printing_anything() -> Iterator[None]:
    """Print any message to any terminal without an encoding error.

    A character that the terminal lacks is shown as a question mark; by default Python raises. Control characters in
    warnings, which may contain names of other people's files, are escaped.
    """
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    before = [(stream, stream.errors) for stream in streams]
    for stream, errors in before:
        if errors in RAISING:
            stream.reconfigure(errors="replace")
    show = warnings.showwarning
    warnings.showwarning = _showing_controls(show)
    try:
        yield
    finally:
        warnings.showwarning = show
        for stream, errors in before:
            if not stream.closed:
                stream.reconfigure(errors=errors)


def _showing_controls(show: Callable[..., None]) -> Callable[..., None]:
    """Return a function that shows warnings as ``show`` does, but without control characters."""

    def shown(message: Warning | str, *place: Any, **options: Any) -> None:
        text = printable(str(message))
        show(message if text == str(message) else text, *place, **options)

    return shown
