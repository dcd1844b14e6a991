"""The reference of the run folder names what a run writes."""

import csv
import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.helpers.command import REPOSITORY, fit

PAGE = (REPOSITORY / "docs" / "reference" / "run-folder.md").read_text()


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ("--trainer.record_downloads=true", "--model.backbone=mlp", "--trainer.export_programs=true")
    return fit(tmp_path_factory.mktemp("reference") / "run", *options, rounds=1, participants=2)


def _section(title: str) -> set[str]:
    """Return what stands in code type below a title."""
    return set(re.findall(r"`([^`]+)`", PAGE.split(f"## {title}\n")[1].split("\n## ")[0]))


def test_every_file_of_a_run_is_named(run_dir: Path) -> None:
    named = re.findall(r"^\| `([^`]+)`", PAGE.split("\n## ")[0], re.MULTILINE)
    patterns = [re.sub(r"NAME|CKPT|NNNN|\bN\b", "*", name) + ("*" if name.endswith("/") else "") for name in named]
    files = [str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.is_file()]
    assert len(files) > 12
    assert not [file for file in files if not any(fnmatch(file, pattern) for pattern in patterns)]


def test_every_field_of_an_event_is_named(run_dir: Path) -> None:
    named = _section("events.jsonl") | {"name", "samples", "width", "loss", "participants", "data", "model"}
    for line in (run_dir / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        assert {event["event"], *event} <= named | {"cosine"}, event["event"]


def test_every_column_is_named(run_dir: Path) -> None:
    named = _section("metrics.csv and contributions.csv")
    with (run_dir / "metrics.csv").open() as file:
        columns = {re.sub("/.*", "/WIDTH", column) for column in next(csv.reader(file))}
    assert columns <= named
    with (run_dir / "contributions.csv").open() as file:
        assert set(next(csv.reader(file))) <= named | {"data_share", "cosine"}


@pytest.mark.parametrize(("file", "rows"), [("allocation.json", "participants"), ("rewards/manifest.json", "rewards")])
def test_every_key_is_named(run_dir: Path, file: str, rows: str) -> None:
    content = json.loads((run_dir / file).read_text())
    assert {*content, *content[rows][0]} <= _section(file)
