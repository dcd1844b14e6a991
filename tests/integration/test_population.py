"""A population too large to train everybody alone, or to give everybody a row: `aequa fit` as a user runs it."""

import csv
import json
import math
from pathlib import Path

import pytest

from aequa_lightning.report import read_run
from tests.helpers.command import aequa, small

PEOPLE = 201


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("population") / "run"
    words = [word for word in small(folder, participants=PEOPLE) if "data.partition" not in word]
    words += [
        "--data.partition=Homogeneous",
        "--data.train_samples=1000",
        "--data.min_samples=2",
        "--trainer.participants_per_round=20",
        "--model.backbone=mlp",
        "--model.backbone_options={hidden: [16]}",
    ]
    words += ["--trainer.standalone=false", "--trainer.mechanism.contribution=cosine"]
    words += ["--trainer.mechanism.objective=proportional", "--trainer.mechanism.individually_rational=false"]
    assert aequa(*words) == 0
    # Not by the fit: allocating again would draw the page again.
    assert aequa("report", "--run_dir", folder) == 0
    return folder


def test_nobody_trains_alone_and_everybody_is_paid(run_dir: Path) -> None:
    assert not (run_dir / "standalone").exists()
    assert not (run_dir / "frontier.json").exists()
    events = [json.loads(line)["event"] for line in (run_dir / "events.jsonl").read_text().splitlines()]
    assert "standalone" not in events
    assert events.count("round") == 2
    with (run_dir / "contributions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["participant", "samples", "standalone", "data_share", "cosine", "gates"]
    assert {row["standalone"] for row in rows} == {""}
    assert sum(float(row["data_share"]) for row in rows) == pytest.approx(1)
    allocation = json.loads((run_dir / "allocation.json").read_text())
    assert [allocation[key] for key in ("mcg", "cgs", "minimum_gain", "pearson_test")] == [None] * 4
    assert {person["gain"] for person in allocation["participants"]} == {None}
    assert len(list((run_dir / "rewards").glob("*.ckpt"))) == PEOPLE


def test_the_page_lists_both_ends(run_dir: Path) -> None:
    page = (run_dir / "report.html").read_text()
    ranking = read_run(run_dir).ranking
    for place, listed in ((0, True), (19, True), (100, False), (-20, True), (-1, True)):
        assert (f'<th scope="row">{ranking[place].name}</th>' in page) == listed
    assert "the 20 largest and the 20 smallest contributors are listed" in page
    assert "Nobody was trained alone" in page
    assert {path.stem for path in (run_dir / "figures").glob("*.png")} == {
        *("fairness", "accuracy-by-width", "training", "time")
    }


def test_it_is_allocated_again_and_audited(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert aequa("allocate", "--run_dir", run_dir, "--contribution", "data_share") == 0
    assert "Nobody was trained alone" in capsys.readouterr().out
    found = json.loads((run_dir / "allocation.json").read_text())["participants"]
    assert math.isclose(sum(person["contribution"] for person in found), 1)
    assert aequa("allocate", "--run_dir", run_dir, "--contribution", "standalone") == 2
    assert "'standalone' was not measured" in capsys.readouterr().err
    assert aequa("audit", "--run_dir", run_dir) == 0
