"""The reader of a run folder: what it takes, what it leaves out and what it refuses."""

import json
from pathlib import Path

import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.report import read_run
from tests.helpers.fake_run import write_fake_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_fake_run(tmp_path / "run", participants=4, rounds=3)


def append(folder: Path, text: str) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.write(text)


def test_reads_what_fit_wrote(folder: Path) -> None:
    run = read_run(folder)
    allocation = json.loads((folder / "allocation.json").read_text())
    manifest = json.loads((folder / "rewards" / "manifest.json").read_text())
    assert [p.name for p in run.participants] == [f"participant-{i:02d}" for i in range(4)]
    assert [p.gain for p in run.participants] == [p["gain"] for p in allocation["participants"]]
    assert [p.reward_bytes for p in run.participants] == [r["bytes"] for r in manifest["rewards"]]
    assert all(sum(p.class_counts) == p.samples for p in run.participants)
    assert [r.number for r in run.rounds] == [1, 2, 3]
    assert run.allocation is not None
    assert run.full_width == allocation["accuracy_by_width"]["1"] == run.allocation.accuracy_by_width[1.0]
    assert set(run.scores) == {"standalone", "cosine"}
    assert run.scores["standalone"] == tuple(p.standalone for p in run.participants)
    assert run.paid_by == "standalone"
    assert run.config is not None
    assert "max_rounds: 3" in run.config


def test_ranking_is_by_contribution(folder: Path) -> None:
    contributions = [p.contribution for p in read_run(folder).ranking]
    assert contributions == sorted(contributions, reverse=True)


def test_last_record_of_a_round_wins_after_a_resume(folder: Path) -> None:
    again = {"event": "round", "round": 2, "seconds": 77.0, "validation_accuracy": {"1": 0.5}, "time": 1.0}
    append(folder, '{"event": "resume", "round": 1, "processes": 3}\n' + json.dumps(again) + "\n")
    run = read_run(folder)
    assert [r.number for r in run.rounds] == [1, 2, 3]
    assert run.rounds[1].seconds == 77.0
    assert run.resumes == 1
    assert run.ending is None


def test_a_new_start_begins_the_record_anew(folder: Path) -> None:
    start = (folder / "events.jsonl").read_text().splitlines()[0]
    append(folder, start + "\n")
    assert read_run(folder).rounds == ()


def test_a_run_whose_first_line_was_torn_is_told_by_its_resume(folder: Path) -> None:
    first, *rest = (folder / "events.jsonl").read_text().splitlines()
    resume = json.dumps(json.loads(first) | {"event": "resume"})
    (folder / "events.jsonl").write_text("\n".join([first[:40], resume, *rest]) + "\n")
    assert len(read_run(folder).rounds) == 3


def test_missing_parts_are_left_out(folder: Path) -> None:
    for name in ("allocation.json", "contributions.csv", "config.yaml", "rewards/manifest.json"):
        (folder / name).unlink()
    run = read_run(folder)
    assert run.allocation is None
    assert run.scores == {}
    assert run.config is None
    assert run.participants[0].gain is None
    assert run.full_width == run.rounds[-1].accuracy_by_width[1.0]


def test_a_stopped_run_says_how_it_ended(tmp_path: Path) -> None:
    run = read_run(write_fake_run(tmp_path / "run", rounds=8, finished=False))
    assert run.ending is not None
    assert (run.ending["signal"], run.ending["round"]) == ("SIGTERM", 4)
    assert run.seconds == pytest.approx(sum(r.seconds for r in run.rounds))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run folder"):
        read_run(tmp_path)


@pytest.mark.parametrize("name", ["allocation.json", "contributions.csv", "rewards/manifest.json"])
def test_a_broken_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{]")
    with pytest.raises(InputError, match=name):
        read_run(folder)


def test_an_empty_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text("")
    with pytest.raises(InputError, match="does not begin with a start event"):
        read_run(tmp_path)
