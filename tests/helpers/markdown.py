"""The code blocks of a page, and running them as a reader would, but small."""

import contextlib
import io
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.helpers.command import REPOSITORY, aequa

# What makes a command take seconds; it is added to each of its kind in a page.
SMALL = {
    "fit": [
        *("--trainer.max_rounds=1", "--trainer.local_epochs=1", "--trainer.devices=1"),
        *("--model.widths=[1.0,0.5,0.25]", "--data.participants=7"),
    ],
    "sweep": ["--only={seed: 0}"],
}
# Unless a page chooses the mechanism.
COARSE = ["--trainer.mechanism=Aequa", "--trainer.mechanism.resolution=0.2", "--trainer.mechanism.bootstrap_samples=50"]

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n+)?^(?P<indent> *)```(?P<language>\w+)(?P<options>[^\n]*)\n"
    r"(?P<content>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: Line number of its fence in the page.
        language: Such as ``python``.
        title: Name of the file that it shows, if it shows one.
        content: Its text.
        reason: Why it is not run, if it is not.
    """

    line: int
    language: str
    title: str | None
    content: str
    reason: str | None


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page in order."""
    for match in _BLOCK.finditer(page):
        title = re.search(r'title="([^"]+)"', match["options"])
        content = re.sub(rf"^{match['indent']}", "", match["content"], flags=re.MULTILINE)
        line = page.count("\n", 0, match.end() - len(match[0]) + match[0].index("```")) + 1
        yield Block(line, match["language"], title[1] if title else None, content, match["reason"])


class Reader:
    """Someone who follows a page in an empty folder, where only the project's ``configs`` and ``examples`` lie."""

    def __init__(self) -> None:
        for name in ("configs", "examples"):
            Path(name).symlink_to(REPOSITORY / name)
        self._names: dict[str, Any] = {"__name__": "page"}

    def follow(self, block: Block) -> None:
        """Write the file that a block shows, or run it."""
        if block.title is not None:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.content)
        elif block.language == "python":
            exec(compile(block.content, f"line {block.line}", "exec"), self._names)
        elif block.language == "bash":
            for command in block.content.replace("\\\n", " ").splitlines():
                self._run(shlex.split(command, comments=True))

    def _run(self, words: list[str]) -> None:
        settings = {}
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            name, _, settings[name] = words.pop(0).partition("=")
        if not words:
            return
        # Python's path holds the folder for scripts and interpreters, for commands only where PYTHONPATH says so.
        path = [place for place in sys.path if place not in ("", ".", str(Path.cwd()))]
        path = [str(Path.cwd())] * (settings.get("PYTHONPATH") == "." or words[0] == "python") + path
        with patch.dict("os.environ", settings), patch.object(sys, "path", path):
            if words[0] == "make":
                self._make(words[1:])
            elif words[0] == "aequa":
                _aequa(words[1:])
            elif words[0] == "python":
                with patch("sys.argv", words[1:]):
                    runpy.run_path(words[1], run_name="__main__")
            else:
                subprocess.run(words, check=True, capture_output=True)

    def _make(self, targets: list[str]) -> None:
        """Do what a target would do with `aequa`; its other commands set the project up or test it."""
        plan = subprocess.run(["make", "-n", "-C", REPOSITORY, *targets], check=True, capture_output=True, text=True)
        for line in plan.stdout.splitlines():
            program, *words = shlex.split(line) or [""]
            if Path(program).name == "aequa":
                _aequa(words)


def _aequa(words: list[str]) -> None:
    # Help and the like leave through SystemExit, as argparse does. The page that ends a run has tests of its own;
    # `aequa report` still builds one.
    errors = io.StringIO()
    no_page = patch("aequa_lightning.trainer.trainer.build_report", return_value=Path("report.html"))
    with contextlib.redirect_stderr(errors), no_page:
        try:
            status: Any = aequa(*words, *SMALL.get(words[0], []), *_coarse(words))
        except SystemExit as exit_:
            status = exit_.code
    assert status == 0, f"aequa {' '.join(words)}\n{errors.getvalue()}"


def _coarse(words: list[str]) -> list[str]:
    """Return the words for a coarse curve, for a fit whose words and files say nothing of how to pay."""
    said = [*words, *(Path(word).read_text() for word in words if word.endswith(".yaml"))]
    return COARSE if words[0] == "fit" and not any("mechanism" in text for text in said) else []
