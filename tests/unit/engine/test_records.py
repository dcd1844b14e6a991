import time

import pytest

from aequa_lightning.engine.records import Stopwatch


def test_stopwatch_phases_and_the_rest_add_up_to_the_total() -> None:
    watch = Stopwatch()
    with watch.phase("training"):
        time.sleep(0.02)
    with watch.phase("training"):
        time.sleep(0.02)
    time.sleep(0.01)
    total, phases = watch.read()
    assert phases["training"] >= 0.04
    assert phases["other"] >= 0.01
    assert sum(phases.values()) == pytest.approx(total)
