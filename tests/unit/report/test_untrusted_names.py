"""Names in the report: whatever participants and folders are called, the page shows it and does nothing."""

import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from rich.console import Console

from aequa_lightning.report import build_report, read_run, summary_table
from tests.helpers.fake_run import write_fake_run

NAMES = [
    "[red]{:02d}",
    "=$x_{{{:02d}}}^2$",
    "<script>alert({})</script>",
    '<img src=x onerror="alert({})">',
    "\x1b[31m{}",
    '{} <g id="who-0"> #1d2328 url(#a) font-family: b;',
]


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the files of figures, which take most of the time; the page has them still."""
    monkeypatch.setattr("aequa_lightning.report.page.drawn", lambda figure, format: b"")


class Elements(HTMLParser):
    """Collects the tags of a page with their attributes, and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_adds_no_element_to_a_page(tmp_path: Path, name: str) -> None:
    page = Elements(build_report([write_fake_run(tmp_path, participants=3, rounds=2, name=name, finished=False)]))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert not {"img", "a", "b", "link"} & {*tags}
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert page.text.count(name.format(0).replace("\x1b", "\\x1b")) >= 2  # in the table and in a figure
    assert "\x1b" not in (tmp_path / "report.html").read_text()


def test_names_with_dollar_signs_are_drawn_as_they_are(tmp_path: Path) -> None:
    run = write_fake_run(tmp_path, participants=3, rounds=2, name="$x_{{{}}}$")
    build_report([run])
    assert "$x_{0}$" in (run / "report.html").read_text()


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", ["javascript:alert(1)", "a b#c?d%41", "<b>", "\x1b[31m", "_hidden", "data:text,a"])
def test_links_of_a_comparison_lead_to_the_reports(tmp_path: Path, name: str) -> None:
    runs = [write_fake_run(tmp_path / one, participants=3, rounds=2) for one in (name, "other")]
    for run in runs:
        (run / "report.html").write_text("a report")
    page = Elements(build_report(runs, output=tmp_path / "page.html"))
    links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a"]
    assert len(links) == 2
    assert [(tmp_path / unquote(urlsplit(link).path)).read_text() for link in links] == ["a report"] * 2
    assert not any(urlsplit(link).scheme or urlsplit(link).netloc for link in links)
    # In the tables, and in the legend of each of the four figures.
    assert page.text.count(name.replace("\x1b", "\\x1b")) >= 2 + 4


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", ["$(touch pwned)", "a; touch pwned", "a'b", "a b"])
def test_the_command_on_a_page_names_the_folder_to_a_shell(tmp_path: Path, name: str) -> None:
    run = write_fake_run(tmp_path / name, participants=3, rounds=2, finished=False)
    commands = re.findall(r"aequa fit --config .*?(?:last|again'?)(?=\s|$)", Elements(build_report([run])).text)
    assert len(commands) == 2
    for command in commands:
        assert shlex.split(command)[3] == str(run / "config.yaml")
        script = f'aequa() {{ echo "$3"; }}; {command}'
        told = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert told.stdout.strip() == str(run / "config.yaml")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["=1+{}", "'={}", "+{}", "@{}", "-{}"])
def test_scores_are_found_by_names_that_look_like_formulas(tmp_path: Path, name: str) -> None:
    plain = write_fake_run(tmp_path / "plain", participants=3, rounds=2)
    run = write_fake_run(tmp_path / "run", participants=3, rounds=2, name=name)
    assert f"\n'{name.format(0)}" in (run / "contributions.csv").read_text()
    assert read_run(run).scores == read_run(plain).scores


def test_the_terminal_shows_names_and_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_fake_run(
        tmp_path / "[blue]run[/blue]", participants=3, rounds=2, name="[red]{}\x1b[31m[/red]", finished=False
    )
    Console(width=200, force_terminal=True).print(summary_table(run))
    said = capsys.readouterr().out
    assert "[blue]run[/blue]" in said
    assert "[red]0\\x1b[31m[/red]" in said
    assert "\x1b[31m" not in said


def test_an_error_shows_control_characters(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aequa_lightning", "report", "--run_dir", str(tmp_path / "\x1b[31m[red]a")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "\\x1b[31m[red]a" in done.stderr
    assert "\x1b" not in done.stderr
