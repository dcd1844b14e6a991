"""The engine with norms that have nothing of a width."""

import json
from pathlib import Path

import pytest
import torch

from aequa_lightning.modules import RewardClassifier
from tests.helpers.command import aequa, fit, small


@pytest.mark.parametrize("norm", ["static", "group"])
def test_rewards_of_other_norms_are_audited_and_loaded(tmp_path: Path, norm: str) -> None:
    words = (f"--model.norm={norm}", "--model.channels_per_group=4", "--trainer.export_programs=true")
    run_dir = fit(tmp_path / "run", *words, rounds=1, participants=2)
    assert aequa("audit", "--run_dir", run_dir) == 0
    for row in json.loads((run_dir / "rewards" / "manifest.json").read_text())["rewards"]:
        reward = RewardClassifier.load_from_checkpoint(run_dir / "rewards" / row["file"], weights_only=True).eval()
        program = torch.export.load(run_dir / "rewards" / row["program"]).module()
        inputs = torch.randn(5, 1, 8, 8)
        torch.testing.assert_close(program(inputs), reward(inputs))


def test_private_norms_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert aequa(*small(tmp_path / "run"), "--model.norm=private") == 2
    assert "model.norm='private'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
