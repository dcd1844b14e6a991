"""Which GPUs the cells of a sweep are given."""

from pathlib import Path

import pytest
import torch

from aequa_lightning.sweep.command import _devices
from aequa_lightning.sweep.matrix import Matrix


@pytest.mark.parametrize(
    ("accelerators", "expected"),
    [
        (["cpu", "cpu"], []),
        (["cpu", "cuda"], ["3", "5"]),
        (["auto"], ["3", "5"]),
    ],
)
def test_cells_on_the_cpu_take_no_gpu(
    accelerators: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    mechanisms = {f"m{place}": {"trainer": {"accelerator": one}} for place, one in enumerate(accelerators)}
    matrix = Matrix(Path("out"), {}, {"mechanism": mechanisms})
    assert _devices(matrix, matrix.cells()) == expected
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _devices(matrix, matrix.cells()) == []
