"""Text for the terminal with control characters escaped, because names and paths may come from others."""

import errno
import os
import re
import sys
import termios
from typing import IO, Any

from rich.console import Console
from rich.text import Text
from typing_extensions import override

# Control characters but tab and newline, other line ends, and characters that change the writing direction.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return a text with every control character, such as the start of an ANSI sequence, as its Python escape.

    Tabs and newlines stay; messages have several lines.

    Example:
        >>> print(printable("\x1b[31mred"), printable("Zoë"))
        \x1b[31mred Zoë
    """
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def verbatim(text: str, style: str = "") -> Text:
    r"""Return a text for tables of rich that is shown verbatim.

    Example:
        >>> verbatim("[red]a").plain
        '[red]a'
    """
    return Text(printable(text), style)


class PlainConsole(Console):
    """A console that shows texts, also those in tables, verbatim: without markup, emoji codes and control characters.

    Args:
        stderr: Whether to write to the standard error.
        file: Where to write instead.
        **options: Further ones of rich's console.
    """

    def __init__(self, *, stderr: bool = False, file: IO[str] | None = None, **options: Any) -> None:
        super().__init__(stderr=stderr, file=file, markup=False, emoji=False, highlight=False, **options)

    @override
    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as rich's own class for it; rich calls this for each text that it prints."""
        return super().render_str(printable(text), **options)


def say_on_terminal(text: str) -> None:
    """Print what is going on to the standard error, where it is a terminal: a log needs only what is done."""
    if sys.stderr.isatty():
        print(printable(text), file=sys.stderr, flush=True)


def leave_lost_terminal() -> None:
    """Send the standard streams nowhere where their terminal is gone: every write to it would fail.

    A closed window or a broken connection takes the terminal away and sends a SIGHUP; the run is still to be saved.
    """
    for descriptor in range(3):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
