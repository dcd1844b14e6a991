"""CSV files: what a spreadsheet would compute is text in them, and everything is read as it was written."""

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aequa_lightning.run_folder.csv_files import csv_text, read_csv

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    "＝1",
    "'=1",
    "''-1",
    '=HYPERLINK("http://a")',
]


@pytest.mark.parametrize("text", FORMULAS)
def test_csv_no_cell_and_no_column_begins_a_formula(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(csv_text([text, "gain"], [(text, -0.5)]), newline="")
    with path.open(newline="") as file:
        header, row = csv.reader(file)
    assert header[0].startswith("'")
    assert row[0].startswith("'")
    assert row[1] == "-0.5"


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp"])), min_size=1))
def test_csv_any_name_is_read_as_it_was_written(names: list[str]) -> None:
    text = csv_text(["participant", "score"], [(name, 0.5) for name in names])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(text.encode())
        assert [row["participant"] for row in read_csv(path)] == names


def test_csv_control_characters_are_escaped_and_none_is_empty() -> None:
    assert csv_text(["a", "b"], [("\x1b[31m", None)]) == "a,b\n\\x1b[31m,\n"
