"""A run on a CUDA device: the results of the CPU within rounding, and devices that are checked. Skipped without one."""

from pathlib import Path

import pytest
import torch

from tests.helpers.command import TOGETHER, aequa, fit, largest_difference, parameters, small

pytestmark = pytest.mark.gpu


def test_a_run_on_a_gpu_gives_the_result_of_the_cpu_within_rounding() -> None:
    # Without Adam, which divides rounding by rounding where a gradient is almost zero.
    words = (*TOGETHER, "--optimizer=SGD", "--optimizer.lr=0.1")
    cpu = fit(Path("cpu"), *words, "--trainer.accelerator=cpu")
    gpu = fit(Path("gpu"), *words, "--trainer.accelerator=cuda")
    moved = max(
        (end.double() - start.double()).abs().max().item()
        for start, end in zip(parameters(cpu, 1).values(), parameters(cpu, 2).values(), strict=True)
    )
    assert largest_difference(cpu, gpu) < min(1e-4, moved / 100)
    assert all(not tensor.is_cuda for tensor in parameters(gpu).values())


def test_a_run_on_a_gpu_is_repeated_to_the_bit_and_pays() -> None:
    words = ("--trainer.accelerator=cuda",)
    one, other = (fit(Path(name), *words) for name in ("one", "other"))
    assert largest_difference(one, other) == 0
    assert (one / "allocation.json").read_bytes() == (other / "allocation.json").read_bytes()
    # The audit recomputes the rewards on the CPU.
    assert aequa("audit", "--run_dir", one) == 0


def test_more_gpus_than_there_are_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--trainer.accelerator=cuda", f"--trainer.devices={torch.cuda.device_count() + 1}")
    assert aequa(*small(Path("run")), *words) == 2
    assert "trainer.devices=" in capsys.readouterr().err
