"""A whole run depends on nothing that surrounds it: neither its process's environment nor its caller's settings."""

import asyncio
import hashlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from aequa_lightning import CollaborativeTrainer, SlimmableClassifier
from aequa_lightning.data import DigitsData
from aequa_lightning.errors import InputError
from tests.helpers.command import REPOSITORY
from tests.helpers.fake_run import write_fake_run

CONFIGURATION = """
seed_everything: 0
trainer: {accelerator: cpu, devices: 1, max_rounds: 1, report: false, export_programs: false}
model: {class_path: SlimmableClassifier, init_args: {backbone: cnn3, widths: [1.0, 0.5]}}
data: {class_path: NpzData, init_args: {path: images.npz, participants: 4, batch_size: 32}}
optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
"""


def command(*words: object, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run `aequa` in a process of its own; None: without that variable."""
    given = {**os.environ, "OMP_NUM_THREADS": None, "COLUMNS": "120", **environment}
    return subprocess.run(
        [sys.executable, "-m", "aequa_lightning", *map(str, words)],
        env={name: value for name, value in given.items() if value is not None},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=200,
    )


def digests(run_dir: Path) -> list[str]:
    """Return what each participant's reward is, in short."""
    files = sorted((run_dir / "rewards").glob("*.ckpt"))
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


@pytest.mark.slow
def test_the_environments_threads_and_the_processes_change_no_bit() -> None:
    generator = np.random.default_rng(0)
    classes = np.arange(800) % 5
    images = (generator.integers(0, 200, (800, 12, 12, 3)) + 10 * classes[:, None, None, None]).astype(np.uint8)
    np.savez("images.npz", x_train=images, y_train=classes, x_test=images[:100], y_test=classes[:100])
    Path("images.yaml").write_text(CONFIGURATION)
    found = {}
    for threads, devices in (("1", 1), ("5", 1), (None, 2)):
        run_dir = Path(f"run-{threads}-{devices}")
        words = ("fit", "--config", "images.yaml", f"--trainer.run_dir={run_dir}", f"--trainer.devices={devices}")
        done = command(*words, OMP_NUM_THREADS=threads)
        assert done.returncode == 0, done.stderr
        found[threads, devices] = digests(run_dir)
    expected = found["1", 1]
    assert len(expected) == 4
    assert {key for key, files in found.items() if files != expected} == set()


def fit(run_dir: str, *, devices: int = 1) -> list[str]:
    """Train three participants for a round, as a user's script does."""
    torch.manual_seed(0)
    data = DigitsData(participants=3, train_samples=200, batch_size=32)
    model = SlimmableClassifier(data.num_classes, data.input_shape, backbone="cnn3", widths=[1.0, 0.5])
    trainer = CollaborativeTrainer(
        accelerator="cpu", devices=devices, max_rounds=1, run_dir=run_dir, report=False, export_programs=False
    )
    trainer.fit(model, data)
    return digests(Path(run_dir))


def in_a_thread(work: Callable[[], list[str]]) -> list[str]:
    """Call a function in a worker thread."""
    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def in_a_loop(work: Callable[[], list[str]]) -> list[str]:
    """Call a function where an event loop runs, as in a notebook."""

    async def coroutine() -> list[str]:
        return work()

    return asyncio.run(coroutine())


def test_a_run_in_a_callers_settings_is_the_plain_one() -> None:
    plain = fit("plain")
    torch.set_num_threads(3)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.autocast("cpu", torch.bfloat16))
            stack.enter_context(torch.inference_mode())
            stack.enter_context(torch.autograd.set_detect_anomaly(True))
            stack.enter_context(torch.device("meta"))
            stack.enter_context(np.errstate(all="raise"))
            for devices in (1, 2):
                assert fit(f"surrounded-{devices}", devices=devices) == plain
            assert torch.get_num_threads() == 3
            assert torch.is_inference_mode_enabled()
            assert torch.get_default_dtype() == torch.float64
            assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
    assert in_a_thread(lambda: fit("thread", devices=2)) == plain
    assert in_a_loop(lambda: fit("loop")) == plain


def test_verbs_leave_threads_generators_and_modes_as_they_were() -> None:
    data = DigitsData(participants=3, train_samples=200, batch_size=32)

    def built() -> SlimmableClassifier:
        torch.manual_seed(0)
        return SlimmableClassifier(data.num_classes, data.input_shape, backbone="mlp", widths=[1.0, 0.5])

    model, again = built(), built()
    trainer = CollaborativeTrainer(accelerator="cpu", devices=1, max_rounds=1, run_dir="run", threads=2, report=False)

    def refused() -> None:
        with pytest.raises(InputError, match="already holds a run"):
            trainer.fit(model, data)

    verbs: list[Callable[[], object]] = [
        lambda: trainer.fit(model, data),
        lambda: trainer.validate(model, data, "last"),
        lambda: trainer.test(model, data, "run/rewards/participant-01.ckpt"),
        lambda: trainer.predict(model, data, "last"),
        lambda: trainer.allocate(again, data, trainer.mechanism),
        refused,
    ]
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        for verb in verbs:
            random.seed(1)
            np.random.seed(1)
            torch.manual_seed(1)
            verb()
            drawn = random.random(), float(np.random.random()), float(torch.rand(1))
            assert drawn == pytest.approx((0.13436424, 0.41702200, 0.75763160), abs=1e-7)
            assert torch.get_num_threads() == 5
            assert all(part.training for part in [*model.modules(), *again.modules()])
    finally:
        torch.set_num_threads(before)


# A notebook's backend that is not installed, a terminal of ASCII and no home; a dark look with TeX and the C locale.
ODD_ENVIRONMENTS = (
    {"MPLBACKEND": "module://nowhere.backend_inline", "PYTHONIOENCODING": "ascii", "HOME": "/dev/null"},
    {"MPLCONFIGDIR": "dark", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
)


def test_the_report_is_the_same_in_every_environment() -> None:
    Path("dark").mkdir()
    Path("dark/matplotlibrc").write_text("savefig.facecolor: black\naxes.grid: True\ntext.usetex: True\n")
    write_fake_run(Path("run"), participants=3, rounds=2, name="Zürich-{:02d}")

    def built(**environment: str | None) -> dict[str, bytes]:
        done = command("report", "--run_dir", "run", **environment)
        assert done.returncode == 0, done.stderr
        files = sorted(Path("run/figures").iterdir())
        content = {file.name: file.read_bytes() for file in files}
        for file in files:
            file.unlink()
        return content

    plain = built()
    assert plain
    for environment in ODD_ENVIRONMENTS:
        assert built(**environment) == plain, environment


def test_a_configuration_that_the_locale_cannot_read_is_refused_with_the_remedy() -> None:
    Path("images.yaml").write_text(f"# Größe\n{CONFIGURATION}", encoding="utf-8")
    words = ("fit", "--config", "images.yaml", "--trainer.run_dir=run")
    done = command(*words, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert done.returncode == 2
    assert "PYTHONUTF8=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_processes_are_forked_after_a_run_that_has_exported_programs() -> None:
    program = """
import sys
from aequa_lightning.__main__ import main
from tests.helpers.command import TOGETHER, small
for devices in (1, 1, 2):
    words = small(f"run-{len(sys.argv)}", devices=devices, rounds=1)
    assert main([*words, *TOGETHER, "--trainer.export_programs=true"]) == 0
    sys.argv.append("")
"""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(Path().glob("run-*/rewards/*.pt2"))) == 12
