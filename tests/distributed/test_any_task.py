"""Segmentation and language modelling: same bits on any number of processes, and after a resume."""

import json
from pathlib import Path

import pytest

from tests.helpers.command import REPOSITORY, aequa, largest_difference

pytestmark = pytest.mark.distributed

SMALL = {
    "shapes": "--model.backbone_options={channels: 4}",
    "characters": "--model.backbone_options={embedding: 8, depth: 1, heads: 2}",
}


def words(task: str, run_dir: Path, *, devices: int, rounds: int) -> list[str]:
    return [
        "fit",
        f"--config={REPOSITORY / 'configs' / 'tasks' / f'{task}.yaml'}",
        f"--trainer.run_dir={run_dir}",
        f"--trainer.devices={devices}",
        f"--trainer.max_rounds={rounds}",
        "--trainer.local_epochs=1",
        "--trainer.mechanism=Aequa",
        "--trainer.mechanism.resolution=0.5",
        "--trainer.report=false",
        "--trainer.export_programs=false",
        "--model.widths=[1.0, 0.5]",
        "--data.participants=3",
        "--data.train_samples=150",
        "--data.test_samples=20",
        SMALL[task],
    ]


@pytest.mark.parametrize("task", list(SMALL))
def test_three_processes_give_the_bits_of_one_and_so_does_a_resume(task: str, tmp_path: Path) -> None:
    for devices in (1, 3):
        assert aequa(*words(task, tmp_path / f"on-{devices}", devices=devices, rounds=2)) == 0
    one, three = tmp_path / "on-1", tmp_path / "on-3"
    assert largest_difference(one, three) == 0
    assert (one / "allocation.json").read_text() == (three / "allocation.json").read_text()
    (one / "checkpoints" / "last.ckpt").unlink()
    (one / "checkpoints" / "round-0002.ckpt").unlink()
    assert aequa(*words(task, one, devices=1, rounds=2), "--ckpt_path=last") == 0
    assert largest_difference(one, three) == 0
    told = [json.loads((run / "allocation.json").read_text()) for run in (one, three)]
    assert told[0] == told[1]
