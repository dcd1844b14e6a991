"""Mechanisms that send everybody a model of its own, in real processes."""

import json
from pathlib import Path

import pytest
import torch

from tests.helpers.command import aequa, fit

pytestmark = pytest.mark.distributed


def models(run_dir: Path) -> torch.Tensor:
    state: torch.Tensor = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["models"]
    return state


@pytest.fixture(scope="module")
def iafl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ("--trainer.mechanism.reset=0.2", "--trainer.assessment.gates=false", "--trainer.record_downloads=true")
    return fit(tmp_path_factory.mktemp("iafl") / "run", "--trainer.mechanism=IAFL", *options, devices=2, rounds=3)


def test_a_resumed_run_on_one_process_pays_the_same_to_the_bit(iafl: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    words = ("fit", f"--config={iafl / 'config.yaml'}", "--trainer.devices=1", f"--trainer.run_dir={tmp_path / 'half'}")
    assert aequa(*words, "--trainer.max_rounds=3", f"--ckpt_path={iafl / 'checkpoints' / 'round-0002.ckpt'}") == 0
    assert torch.equal(models(tmp_path / "half"), models(iafl))
    paid, again = (json.loads((run / "allocation.json").read_text()) for run in (iafl, tmp_path / "half"))
    assert again["participants"] == paid["participants"]


@pytest.mark.parametrize(
    "mechanism", [("FedRAC", "--trainer.mechanism.steps=5"), ("FedAVE", "--trainer.standalone=false")]
)
def test_rivals_that_evaluate_models_pay_the_same_on_any_number_of_processes(
    tmp_path: Path, mechanism: tuple[str, str]
) -> None:
    whole, half, (name, option) = tmp_path / "whole", tmp_path / "half", mechanism
    options = (f"--trainer.mechanism={name}", option, "--trainer.keep_checkpoints=3")
    network = ("--model.backbone=mlp", "--model.backbone_options={hidden: [16]}")
    fit(whole, *options, *network, devices=2, rounds=4)
    half.mkdir()
    words = ("fit", f"--config={whole / 'config.yaml'}", "--trainer.devices=1", f"--trainer.run_dir={half}")
    assert aequa(*words, f"--ckpt_path={whole / 'checkpoints' / 'round-0002.ckpt'}") == 0
    assert torch.equal(models(half), models(whole))
    assert (half / "contributions.csv").read_text() == (whole / "contributions.csv").read_text()
    # Somebody receives less than the whole model, or less of each step.
    assert len({tuple(model.tolist()) for model in models(whole)}) > 1


def test_everybody_is_given_its_own_full_network(iafl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads((iafl / "rewards" / "manifest.json").read_text())["rewards"]
    for row, model in zip(rows, models(iafl), strict=True):
        assert row["width"] == 1.0
        reward = torch.load(iafl / "rewards" / row["file"], weights_only=True)["state_dict"]
        weights = [value.flatten() for name, value in reward.items() if name.endswith(("weight", "bias"))]
        assert torch.equal(torch.cat(weights), model)
    assert len({row["sha256"] for row in rows}) > 1
    capsys.readouterr()
    assert aequa("test", f"--config={iafl / 'config.yaml'}", f"--ckpt_path={iafl / 'rewards' / rows[1]['file']}") == 0
    assert repr(rows[1]["test_accuracy"]) in capsys.readouterr().out
    assert aequa("audit", f"--run_dir={iafl}") == 0
    # What was sent in the last round is in the checkpoint before it; older ones are not kept.
    downloads = json.loads((iafl / "audit.json").read_text())["downloads"]
    assert downloads == {"files": 12, "compared": 4, "faults": []}


def test_fine_tuning_gives_what_one_more_epoch_makes_of_the_average(tmp_path: Path) -> None:
    run_dir = fit(tmp_path / "run", "--trainer.mechanism=FineTuning", devices=2, rounds=1)
    shared = fit(tmp_path / "plain", "--trainer.mechanism=Composed", devices=1, rounds=1)
    # Composed pays with the server's model unless it is told otherwise.
    assert all(torch.equal(row, models(shared)[0]) for row in models(shared))
    paid = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["reward_source"]["models"]
    moved = (paid - models(shared)).norm(dim=1)
    assert (moved > 0).all()
    assert len(set(moved.tolist())) == len(moved)
    assert aequa("audit", f"--run_dir={run_dir}") == 0
    reward = torch.load(run_dir / "rewards" / "participant-00.ckpt", weights_only=True)["state_dict"]
    weights = [value.flatten() for name, value in reward.items() if name.endswith(("weight", "bias"))]
    assert torch.equal(torch.cat(weights), paid[0])


def test_a_prolonged_run_does_not_train_on_from_what_was_adapted_in_the_end(tmp_path: Path) -> None:
    words = ("--trainer.mechanism=FineTuning", "--model.backbone=mlp", "--model.backbone_options={hidden: [16]}")
    whole = fit(tmp_path / "whole", *words, rounds=2)
    prolonged = fit(tmp_path / "run", *words, rounds=1)
    fit(prolonged, *words, "--ckpt_path=last", rounds=2)
    paid, again = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, prolonged))
    assert torch.equal(again["models"], paid["models"])
    assert torch.equal(again["reward_source"]["models"], paid["reward_source"]["models"])
