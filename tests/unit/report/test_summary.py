"""The table at the end of the terminal output."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from aequa_lightning.errors import InputError
from aequa_lightning.report import read_run, summary_table
from aequa_lightning.report.quantities import title
from tests.helpers.fake_run import write_fake_run


def printed(folder: Path) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(summary_table(folder))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_table_has_a_row_for_each_participant_by_contribution(tmp_path: Path) -> None:
    text = printed(write_fake_run(tmp_path, participants=5, rounds=2))
    names = [p.name for p in read_run(tmp_path).ranking]
    assert sorted(names, key=text.index) == names
    header = next(line for line in text.splitlines() if "samples" in line)
    columns = ["participant", "samples", "standalone", "contribution", "width", "received", "gain", "test"]
    assert sorted(columns, key=header.index) == columns
    assert "Pearson" in text


def test_table_of_an_unfinished_run_says_so(tmp_path: Path) -> None:
    text = printed(write_fake_run(tmp_path, participants=3, rounds=2, finished=False))
    assert "nothing allocated yet" in text
    assert "–" in text


def test_the_result_stands_below_the_table_with_its_titles_in_no_faint_style(tmp_path: Path) -> None:
    run = read_run(write_fake_run(tmp_path, participants=5, rounds=2))
    text = printed(tmp_path)
    below = text[text.index(run.ranking[-1].name) :]
    for key, figure in (("pearson", ""), ("mcg", "+"), ("cgs", ""), ("minimum_gain", "+")):
        assert f"{title(key)} {figure}" in below
    assert "Everybody gained" in below
    assert max(map(len, text.splitlines())) <= 80
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    console.print(summary_table(tmp_path))
    styles = re.findall(r"\x1b\[([\d;]+)m", console.file.getvalue())  # type: ignore[attr-defined]
    assert {"1"} <= {*styles} <= {"0", "1", "31"}  # bold and red, neither dim (2) nor italic (3)


def test_table_of_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        summary_table(tmp_path)
