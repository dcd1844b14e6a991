"""Every test starts in an empty folder and a clean environment, and leaves neither processes nor settings behind."""

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

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
