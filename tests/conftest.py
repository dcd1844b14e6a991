"""Every test starts in an empty folder and a clean environment, and leaves neither processes nor settings behind."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from aequa_lightning.engine.processes.signals import STOP_SIGNALS

PREFIXES = ("SLURM_", "LT_", "PL_", "WANDB_", "AEQUA_FIT", "MASTER_", "TORCHELASTIC_")
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK")


def _is_foreign(name: str) -> bool:
    return name.startswith(PREFIXES) or name in NAMES


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the tests marked `gpu` where there is no CUDA device."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in list(os.environ) if _is_foreign(name)}
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in os.environ if _is_foreign(name)]:
        del os.environ[name]
    os.environ.update(kept)
    assert not multiprocessing.active_children(), "a test left processes behind"


@pytest.fixture
def heard_signals() -> Iterator[None]:
    """Let stop signals be heard in the test and what it starts, also where pytest was started with `nohup` or `&`."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
