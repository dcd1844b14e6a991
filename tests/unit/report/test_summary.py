"""The table at the end of the terminal output."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from aequa_lightning.errors import InputError
from aequa_lightning.report import read_run, summary_table
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
    columns = ["participant", "samples", "standalone", "contribution", "width", "received", "test", "gain"]
    assert sorted(columns, key=header.index) == columns
    assert "Pearson" in text


def test_table_of_an_unfinished_run_says_so(tmp_path: Path) -> None:
    text = printed(write_fake_run(tmp_path, participants=3, rounds=2, finished=False))
    assert "nothing allocated yet" in text
    assert "–" in text


def test_table_of_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        summary_table(tmp_path)
