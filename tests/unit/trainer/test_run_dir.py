from pathlib import Path

import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.trainer.run_dir import clear, fill_placeholders
from aequa_lightning.trainer.trainer import CollaborativeTrainer
from tests.helpers.command import aequa, events, small


def test_placeholders_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "3kq9x2vy")
    trainer = CollaborativeTrainer(run_dir="runs/{wandb.id}/{seed}", seed=4, accelerator="cpu")
    assert trainer.config.run_dir == Path("runs/3kq9x2vy/4")


@pytest.mark.parametrize(
    ("name", "words"), [("{wandb.id}", "WANDB_RUN_ID is not set"), ("{round}", "{round} is unknown")]
)
def test_a_placeholder_that_cannot_be_filled_is_refused(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fill_placeholders(f"runs/{name}", seed=0)


def test_a_trial_does_everything_once_and_can_be_repeated() -> None:
    words = [*small(Path("run-{seed}"), rounds=5), "--trainer.fast_dev_run=true"]
    folder = Path("run-0.fast_dev_run")
    for _ in range(2):
        assert aequa(*words) == 0
        assert [event["round"] for event in events(folder, "round")] == [1]
        assert (folder / "rewards" / "manifest.json").is_file()
        assert "run_dir: run-0\n" in (folder / "config.yaml").read_text()
    assert aequa("allocate", "--run_dir", folder) == 0
    assert not Path("run-0").exists()


def test_clearing_leaves_the_lock(tmp_path: Path) -> None:
    (tmp_path / "rewards").mkdir()
    (tmp_path / ".lock").touch()
    (tmp_path / "events.jsonl").touch()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
