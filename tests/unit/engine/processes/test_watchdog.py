import time
from datetime import timedelta
from pathlib import Path

import pytest

from aequa_lightning.engine.processes import watchdog
from aequa_lightning.engine.processes.watchdog import watching_itself


def compute(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_who_computes_is_left_alone_and_who_then_waits_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up: list[tuple[Path, int, bool]] = []
    monkeypatch.setattr(watchdog, "_give_up", lambda *who: given_up.append(who))
    with watching_itself(tmp_path, 3, timedelta(seconds=0.3), speaks=True):
        compute(0.6)
        assert not given_up
        time.sleep(0.6)
    assert given_up[0] == (tmp_path, 3, True)
