import json
from pathlib import Path

import pytest

from tests.helpers.command import events, fit, largest_difference

pytestmark = pytest.mark.distributed

TRAINING_TIME = ("--trainer.mechanism=AequaTraining", "--trainer.mechanism.resolution=1.0")


def test_participants_hold_what_they_earned_in_every_round(tmp_path: Path) -> None:
    run_dir = fit(tmp_path / "run", *TRAINING_TIME, devices=2, rounds=4)
    held = [[row["width"] for row in event["participants"]] for event in events(run_dir, "round")]
    (contributions,) = (event["measures"]["standalone"] for event in events(run_dir, "contributions"))
    top = contributions.index(max(contributions))
    assert all(widths[top] == 1.0 for widths in held)
    assert min(min(widths) for widths in held) < 1.0
    manifest = json.loads((run_dir / "rewards" / "manifest.json").read_text())["rewards"]
    assert [row["width"] for row in manifest] == held[-1]
    # Less is sent than when all hold everything.
    full = fit(tmp_path / "full", "--trainer.mechanism=SharedModel", rounds=1)
    assert events(run_dir, "round")[0]["bytes_sent"] < events(full, "round")[0]["bytes_sent"]
    alone = fit(tmp_path / "alone", *TRAINING_TIME, devices=1, rounds=4)
    assert largest_difference(run_dir, alone) == 0
