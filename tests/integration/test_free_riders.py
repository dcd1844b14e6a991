"""Participants that cheat are found, not paid, and do not drag the model, on any processes and after a resume."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from aequa_lightning.report import read_run
from aequa_lightning.report.sentences import summarise
from tests.helpers.command import aequa, events, fit, small

CHEATS = (
    "--trainer.adversaries=[{class_path: SignFlip, init_args: {participants: [0]}}, "
    "{class_path: NotFinite, init_args: {participants: [2]}}, {class_path: Noise, init_args: {participants: [3]}}]",
    "--model.backbone=mlp",
    "--model.backbone_options={hidden: [24]}",
    "--optimizer.lr=0.01",
    "--trainer.local_epochs=2",
)
SIZES: dict[str, Any] = {"rounds": 4, "participants": 8}
pytestmark = pytest.mark.filterwarnings("ignore:.*are not finite or exploded")


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "contributions.csv").open() as file:
        return list(csv.DictReader(file))


def _remarks(run: Path) -> list[str]:
    return [row["gates"] for row in _rows(run)]


def test_by_default_nobody_is_paid_for_cheating(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", *CHEATS, **SIZES)
    remarks = _remarks(run)
    assert all("not paid" in remarks[index] for index in (0, 2, 3))
    assert "harmful in" in remarks[0]
    assert "non-finite in 4 rounds" in remarks[2]
    assert "nothing new in 4 rounds" in remarks[3]
    assert all("not paid" not in remarks[index] for index in (1, 4, 5, 6, 7))
    allocation = json.loads((run / "allocation.json").read_text())
    assert allocation["unpaid"] == ["participant-00", "participant-02", "participant-03"]
    widths = [row["width"] for row in allocation["participants"]]
    assert {widths[index] for index in (0, 2, 3)} == {min(allocation["widths"])}
    assert max(widths) == 1.0
    assert all("participant-03" in event["excluded"] for event in events(run, "round"))
    assert events(run, "round")[-1]["excluded"] == ["participant-00", "participant-03"]
    assert "participant-00, participant-02, participant-03 were caught" in " ".join(summarise(read_run(run)))
    honest = fit(tmp_path / "honest", *CHEATS[1:], **SIZES)
    (cheated, fair) = (events(folder, "round")[-1]["validation_accuracy"]["1"] for folder in (run, honest))
    assert cheated > fair - 0.1


def test_the_same_data_under_two_names_is_paid_once(tmp_path: Path) -> None:
    shared = "--trainer.adversaries=[{class_path: SharedData, init_args: {participants: [5], of: 1}}]"
    run = fit(tmp_path / "run", shared, *CHEATS[1:], **SIZES)
    remarks = _remarks(run)
    assert "same data as participant-05 in " in remarks[1]
    assert "kept out of the average" in remarks[5]
    assert [index for index, remark in enumerate(remarks) if remark] == [1, 5]
    assert events(run, "round")[-1]["excluded"] == ["participant-05"]
    allocation = json.loads((run / "allocation.json").read_text())
    contributions = [row["contribution"] for row in allocation["participants"]]
    alone = [row["standalone"] for row in _rows(run)]
    assert allocation["unpaid"] == []
    assert contributions[1] == contributions[5] == pytest.approx((float(alone[1]) + float(alone[5])) / 4)


@pytest.mark.distributed
def test_two_processes_and_a_resumed_run_find_the_same(tmp_path: Path) -> None:
    one = fit(tmp_path / "one", *CHEATS, **SIZES)
    two = fit(tmp_path / "two", *CHEATS, devices=2, **SIZES)
    halved = fit(tmp_path / "halved", *CHEATS, rounds=2, participants=8)
    assert aequa(*small(halved, rounds=4, participants=8), *CHEATS, "--ckpt_path=last") == 0
    for other in (two, halved):
        assert _remarks(other) == _remarks(one)
        assert [event["gates"] for event in events(other, "round")] == [
            event["gates"] for event in events(one, "round")
        ]


def test_allocating_again_pays_the_same_people(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", *CHEATS, **SIZES)
    before = json.loads((run / "allocation.json").read_text())
    assert aequa("allocate", "--run_dir", run, "--objective", "spread_minus_gain") == 0
    after = json.loads((run / "allocation.json").read_text())
    assert after["unpaid"] == before["unpaid"]
    assert after["participants"][0]["width"] == before["participants"][0]["width"]


def test_training_time_rewards_shrink_what_cheaters_hold(tmp_path: Path) -> None:
    words = [*CHEATS, "--trainer.mechanism=AequaTraining"]
    assert aequa(*[word for word in small(tmp_path / "run", **SIZES) if "mechanism" not in word], *words) == 0
    (last,) = events(tmp_path / "run", "round")[-1:]
    held = [row["width"] for row in last["participants"]]
    assert max(held[0], held[3]) == min(held)
    assert all("not paid" in _remarks(tmp_path / "run")[index] for index in (0, 2, 3))


def test_privacy_leaves_nobody_out(tmp_path: Path) -> None:
    pytest.importorskip("dp_accounting", reason="needs the privacy extra")
    words = ("--trainer.privacy={clip: 1.0, noise_multiplier: 0.1}", "--trainer.aggregator=FedAvg")
    run = fit(tmp_path / "run", *CHEATS, *words, "--trainer.aggregator.weighting=uniform", **SIZES)
    assert all(event["excluded"] == [] for event in events(run, "round"))


def test_a_round_of_which_nothing_is_left_moves_nothing(tmp_path: Path) -> None:
    nobody = "--trainer.adversaries=[{class_path: Nothing, init_args: {participants: [0, 1, 2, 3]}}]"
    run = fit(tmp_path / "run", nobody, *CHEATS[1:], rounds=2)
    first, second = events(run, "round")
    assert first["validation_accuracy"] == second["validation_accuracy"]
    allocation = json.loads((run / "allocation.json").read_text())
    assert len(allocation["unpaid"]) == 4


def test_an_audit_of_a_run_with_unpaid_participants_finds_nothing(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", *CHEATS, **SIZES)
    assert aequa("audit", "--run_dir", run) == 0
