"""The terminal: nothing in a name is obeyed, neither as markup nor as a control character."""

import io
import warnings

import pytest
from rich.console import Console
from rich.table import Table

from aequa_lightning.runtime.start_up import printing_anything
from aequa_lightning.runtime.terminal import PlainConsole, printable, verbatim

HOSTILE = [
    "[red]a[/red]",
    "[link=http://a]b[/link]",
    "[/]",
    ":smile:",
    "\x1b]8;;http://a\x1b\\b",
    "\x9b31m",
    "a\u202eb",
    "a\rb",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_terminal_shows_a_text_as_it_is(text: str) -> None:
    stream = io.StringIO()
    console = PlainConsole(file=stream, force_terminal=True, width=80)
    table = Table("name", title=text, caption=text)
    table.add_row(text)
    console.print(table)
    console.print(text)
    said = stream.getvalue()
    assert said.count(printable(text)) == 4
    assert printable(text) == text or text not in said
    assert "http://" not in said.replace(printable(text), "")


@pytest.mark.parametrize("text", HOSTILE)
def test_terminal_text_is_shown_as_it_is_by_any_console(text: str) -> None:
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, width=80).print(verbatim(text))
    assert stream.getvalue() == printable(text) + "\n"


def test_terminal_warnings_show_control_characters() -> None:
    shown: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: shown.append(str(message))
        with printing_anything():
            warnings.warn("file \x1b[2Ja", stacklevel=1)
            warnings.warn("plain", stacklevel=1)
        warnings.warn("\x1b", stacklevel=1)
    assert shown == ["file \\x1b[2Ja", "plain", "\x1b"]


def test_terminal_messages_keep_their_lines_and_letters() -> None:
    assert printable("Zürich 東京\n\tعلي 👩‍🔬") == "Zürich 東京\n\tعلي 👩‍🔬"
