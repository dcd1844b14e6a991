"""Paths as users write them: ~ is the home folder everywhere, and what is no path is refused by its key."""

from pathlib import Path

import numpy as np
import pytest

from aequa_lightning.data import NpzData
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path
from aequa_lightning.trainer.trainer import CollaborativeTrainer
from tests.helpers.command import TOGETHER, aequa, fit


def test_paths_run_lives_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    fit(Path("~/runs/mine"), *TOGETHER, rounds=1)
    assert (tmp_path / "home" / "runs" / "mine" / "allocation.json").is_file()
    assert not Path("~").exists()
    config = "--config=~/runs/mine/config.yaml"
    assert aequa("test", config, "--ckpt_path=~/runs/mine/checkpoints/last.ckpt") == 0
    assert aequa("test", config, "--ckpt_path=~/runs/mine/rewards/participant-00.ckpt") == 0
    assert aequa("allocate", "--run_dir=~/runs/mine") == 0
    assert aequa("audit", "--run_dir=~/runs/mine") == 0
    assert aequa("report", "--run_dir=~/runs/mine", "--output=~/page.html") == 0
    assert (tmp_path / "home" / "page.html").is_file()
    assert not Path("~").exists()


def test_paths_data_and_keys_are_found_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    x, y = np.arange(80.0).reshape(40, 2), np.arange(40) % 2
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert len(NpzData("~/data.npz", participants=2).test()) == 40
    trainer = CollaborativeTrainer(accelerator="cpu", devices=1, standalone_dir="~/alone", signing_key="~/key.pem")
    assert trainer.config.standalone_dir == tmp_path / "alone"
    assert trainer.signing_key == tmp_path / "key.pem"


@pytest.mark.parametrize("text", ["", "nul\0", "~nobody-of-this-name/runs"])
def test_paths_what_is_no_path_is_refused_by_its_key(text: str) -> None:
    with pytest.raises(InputError, match=r"trainer\.run_dir="):
        user_path(text, "trainer.run_dir")
