import time
from datetime import timedelta
from pathlib import Path

import pytest

from aequa_lightning.engine.processes import hang_detection as module
from aequa_lightning.engine.processes.hang_detection import detecting_hangs


def compute(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_hang_detection_ends_an_idle_process_and_no_busy_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up: list[tuple[Path, int, bool]] = []
    monkeypatch.setattr(module, "_end_process", lambda *who: given_up.append(who))
    with detecting_hangs(tmp_path, 3, timedelta(seconds=0.3), reports=True):
        compute(0.6)
        assert not given_up
        time.sleep(0.6)
    assert given_up[0] == (tmp_path, 3, True)
