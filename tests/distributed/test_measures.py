"""Measures taken round by round: the same for any number of processes, and after a stop."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.command import aequa, events, fit, small

pytestmark = pytest.mark.distributed
MEASURES = (
    *("cosine", "class_cosine", "alignment", "fedsv", "banzhaf", "beta_shapley", "loo", "gtg_shapley", "cffl", "rffl"),
    *("fedave", "local_accuracy"),
)
EVERYTHING = (f"--trainer.assessment.measures=[{','.join(MEASURES)}]", "--trainer.assessment.exclude_flagged=true")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("alone") / "run", *EVERYTHING, devices=1, rounds=3)


def test_two_and_three_processes_measure_the_same(tmp_path: Path, alone: Path) -> None:
    for devices in (2, 3):
        run = fit(tmp_path / f"on-{devices}", *EVERYTHING, devices=devices, rounds=3)
        for name in ("contributions.csv", "allocation.json", "frontier.json"):
            assert (run / name).read_text() == (alone / name).read_text()
        assert [event["gates"] for event in events(run, "round")] == [
            event["gates"] for event in events(alone, "round")
        ]


def test_a_resumed_run_measures_the_same(tmp_path: Path, alone: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(alone, run_dir)
    for path in (run_dir / "checkpoints").glob("round-0003.*"):
        path.unlink()
    # From the middle, with the previous aggregate among what is taken up, on another number of processes.
    assert aequa(*small(run_dir, devices=2, rounds=3), *EVERYTHING, "--ckpt_path=last") == 0
    assert [event["round"] for event in events(run_dir, "resume")] == [2]
    assert (run_dir / "contributions.csv").read_text() == (alone / "contributions.csv").read_text()


def test_a_measure_that_was_not_taken_cannot_be_paid_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = fit(tmp_path / "run", rounds=1)
    words = ("--trainer.mechanism.contribution=fedsv", "--trainer.mechanism.objective=pearson")
    assert aequa(*small(run_dir), *words, "--ckpt_path=last") == 2
    assert "'fedsv' was not taken" in capsys.readouterr().err


def test_every_measure_is_a_column_and_an_entry_of_the_record(alone: Path) -> None:
    with (alone / "contributions.csv").open() as file:
        rows = list(csv.DictReader(file))
    (event,) = events(alone, "contributions")
    for name, values in event["measures"].items():
        column = name
        assert [float(row[column]) for row in rows] == values
    assert list(event["measures"]) == ["standalone", "data_share", *MEASURES]
    assert list(event["errors"]) == ["gtg_shapley"]
    assert all(row["gates"] == "" for row in rows)
    # The scores of the rounds add up to the federated Shapley value.
    for place, row in enumerate(rows):
        told = sum(event["participants"][place]["fedsv"] for event in events(alone, "round"))
        assert told == pytest.approx(float(row["fedsv"]))


def test_the_front_and_the_uncertainty_are_written(alone: Path) -> None:
    allocation = json.loads((alone / "allocation.json").read_text())
    front = json.loads((alone / "frontier.json").read_text())
    assert front["chosen"] == {"mcg": allocation["mcg"], "cgs": allocation["cgs"]}
    mean_gains, spreads = ([point[figure] for point in front["front"]] for figure in ("mcg", "cgs"))
    assert mean_gains == sorted(mean_gains)
    assert spreads == sorted(spreads)
    # What was chosen under the same rules lies nowhere beyond the front.
    assert not any(
        allocation["mcg"] > mean + 1e-12 and allocation["cgs"] < spread - 1e-12
        for mean, spread in zip(mean_gains, spreads, strict=True)
    )
    drawn = allocation["uncertainty"]
    assert drawn["mcg"][0] <= allocation["mcg"] <= drawn["mcg"][1]
    for person, interval in zip(allocation["participants"], drawn["participants"], strict=True):
        assert set(interval["width"]) <= set(allocation["widths"])
        assert sum(interval["shares"].values()) == pytest.approx(1)
        assert person["name"] == interval["name"]


def test_allocating_again_pays_by_another_measure_and_keeps_what_was_measured(
    tmp_path: Path, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(alone, run_dir)
    (run_dir / "contributions.csv").unlink()
    assert aequa("allocate", "--run_dir", run_dir, "--contribution", "fedsv", "--objective", "proportional") == 0
    assert (run_dir / "contributions.csv").read_text() == (alone / "contributions.csv").read_text()
    content = json.loads((run_dir / "allocation.json").read_text())
    (event,) = events(alone, "contributions")
    assert [person["contribution"] for person in content["participants"]] == event["measures"]["fedsv"]
    (chosen,) = [line for line in capsys.readouterr().out.splitlines() if "<- chosen" in line]
    assert [float(cell.replace("\N{MINUS SIGN}", "-")) for cell in chosen.split()[:2]] == [
        round(100 * content[figure], 1) for figure in ("mcg", "cgs")
    ]
    assert (run_dir / "frontier.png").read_bytes().startswith(b"\x89PNG")
    # The front is over what everybody reaches alone, whatever is paid for.
    front, before = (json.loads((folder / "frontier.json").read_text())["front"] for folder in (run_dir, alone))
    assert front == before
    assert len(front) > 1


def test_paying_by_another_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--trainer.mechanism.contribution=alignment", "--trainer.mechanism.objective=pearson")
    run_dir = fit(tmp_path / "run", *words, devices=2, rounds=2)
    content = json.loads((run_dir / "allocation.json").read_text())
    (event,) = events(run_dir, "contributions")
    assert [person["contribution"] for person in content["participants"]] == event["measures"]["alignment"]
    assert content["uncertainty"] is None
    for person, own in zip(content["participants"], event["measures"]["standalone"], strict=True):
        assert person["gain"] == person["accuracy"] - own
    columns = (run_dir / "contributions.csv").read_text()
    assert aequa("allocate", "--run_dir", run_dir, "--contribution", "standalone", "--objective", "cv") == 0
    assert (run_dir / "contributions.csv").read_text() == columns
    assert aequa("allocate", "--run_dir", run_dir, "--contribution", "fedsv", "--objective", "pearson") == 2
    assert "'fedsv' was not measured" in capsys.readouterr().err
    assert aequa(*small(tmp_path / "bad"), "--trainer.mechanism.contribution=fedsv") == 2
    assert "proportional" in capsys.readouterr().err


def test_too_many_coalitions_are_refused_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = small(tmp_path / "run", participants=13)
    assert aequa(*words, "--trainer.assessment.measures=[beta_shapley]") == 2
    assert "participants_per_round" in capsys.readouterr().err
    assert not list((tmp_path / "run" / "standalone").glob("*.json"))
