"""Adversaries in a run: the same on any number of processes, in stacks, after a resume; told in record and report."""

import json
from pathlib import Path

import pytest
import torch

from aequa_lightning.report import read_run
from aequa_lightning.report.sentences import summarise
from tests.helpers.command import TOGETHER, aequa, events, fit, small

CHEATS = (
    "--trainer.adversaries=["
    "{class_path: aequa_lightning.adversaries.Replay, init_args: {participants: [0], mix: 0.5}}, "
    "{class_path: FlippedLabels, init_args: {participants: [1]}}, "
    "{class_path: Clone, init_args: {participants: [3], of: 2}}]"
)


def _parameters(run_dir: Path) -> torch.Tensor:
    state = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return torch.cat([value.reshape(-1) for value in state.values()])


@pytest.mark.distributed
def test_the_number_of_processes_does_not_matter(tmp_path: Path) -> None:
    one, two = (fit(tmp_path / f"{n}", CHEATS, *TOGETHER, devices=n, rounds=3) for n in (1, 2))
    assert torch.equal(_parameters(one), _parameters(two))
    assert (one / "contributions.csv").read_text() == (two / "contributions.csv").read_text()
    replicas = fit(tmp_path / "replicas", CHEATS, *TOGETHER, "--trainer.replicas=2", devices=2, rounds=3)
    assert torch.allclose(_parameters(one), _parameters(replicas), atol=1e-4)


def test_a_resumed_run_replays_what_came_before(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", CHEATS, *TOGETHER, rounds=4)
    halved = fit(tmp_path / "halved", CHEATS, *TOGETHER, rounds=2)
    assert aequa(*small(halved, rounds=4), CHEATS, *TOGETHER, "--ckpt_path=last") == 0
    assert torch.equal(_parameters(whole), _parameters(halved))


def test_stacks_send_the_same(tmp_path: Path) -> None:
    alone = fit(tmp_path / "alone", CHEATS, *TOGETHER, rounds=2)
    stacked = fit(tmp_path / "stacked", CHEATS, *TOGETHER, "--trainer.stacking=4", rounds=2)
    assert torch.allclose(_parameters(alone), _parameters(stacked), atol=1e-3)


def test_record_and_report_say_who_cheats(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", CHEATS, *TOGETHER, rounds=2)
    told = events(run, "start")[0]["adversaries"]
    assert told[0] == {"name": "Replay", "participants": [0], "age": 1, "mix": 0.5, "scale": 1.0}
    assert [adversary["name"] for adversary in told] == ["Replay", "FlippedLabels", "Clone"]
    assert "participant-00 by Replay(age=1, mix=0.5, scale=1.0)" in summarise(read_run(run))[1]
    counts = events(run, "start")[0]["data"]["class_counts"]
    assert counts[3] == counts[2]


def test_false_labels_are_found_by_what_is_reached_alone(tmp_path: Path) -> None:
    flipped = "--trainer.adversaries=[{class_path: FlippedLabels, init_args: {participants: [1]}}]"
    run = fit(tmp_path / "run", flipped, "--data.partition.alpha=100", "--trainer.local_epochs=5", rounds=2)
    allocation = json.loads((run / "allocation.json").read_text())
    assert allocation["unpaid"] == ["participant-01"]
    assert "false labels in 2 rounds" in (run / "contributions.csv").read_text()


def test_a_narrow_participant_cannot_send_more_than_it_holds(tmp_path: Path) -> None:
    noise = "--trainer.adversaries=[{class_path: Noise, init_args: {participants: [0, 1, 2, 3]}}]"
    words = ("--trainer.mechanism=Slimming", "--trainer.mechanism.contribution=data_share", *TOGETHER[2:])
    run = fit(tmp_path / "run", noise, *words, rounds=1)
    assert events(run, "finish")


@pytest.mark.parametrize(
    ("adversary", "message"),
    [
        ("{class_path: Nothing, init_args: {participants: [7]}}", "names participant 7"),
        ("{class_path: Replay, init_args: {participants: [0], age: 0}}", "Replay.age=0"),
        ("{class_path: Replay, init_args: {participant: [0]}}", "participant"),
    ],
)
def test_bad_adversaries_are_refused(
    adversary: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert aequa(*small(tmp_path / "run"), f"--trainer.adversaries=[{adversary}]") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "events.jsonl").exists()
