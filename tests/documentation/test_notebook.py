"""The notebook in examples/ runs from fit to the page of the run."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers.command import REPOSITORY


# Of the libraries that run notebooks.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_notebook_runs_and_shows_what_it_says() -> None:
    notebook = nbformat.read(REPOSITORY / "examples" / "first_run.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code), "clear the outputs, which are not those of today's code"
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(Path.cwd())}}).execute()
    shown = [
        {
            kind: text
            for one in cell.outputs
            for kind, text in (one.get("data") or {one.get("name"): one.get("text")}).items()
        }
        for cell in code
    ]
    assert "participant-04" in shown[1]["text/html"]
    assert "<table" in shown[2]["text/html"]
    assert "## What it must not be used for" in shown[3]["text/markdown"]
    # What the card says of the reward is what the program reaches.
    (told,) = re.findall(r"\| test \| ([\d.]+%)", shown[3]["text/markdown"])
    assert told in shown[4]["stdout"]
    assert "runs/first/report.html" in shown[5]["text/html"]
    assert Path("runs/first/report.html").is_file()
