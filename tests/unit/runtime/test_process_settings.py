"""Settings of the caller: none changes what is computed, and all are as they were afterwards."""

import io
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from aequa_lightning.data import DigitsData
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.runtime.process_settings import own_settings
from aequa_lightning.runtime.start_up import printing_anything


def settings() -> dict[str, object]:
    """Return everything that a caller may have set."""
    return {
        "threads": torch.get_num_threads(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
        "type": torch.get_default_dtype(),
        "device": torch.zeros(1).device.type,
        "products": torch.get_float32_matmul_precision(),
        "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "numpy": np.geterr(),
    }


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(1, dtype=torch.float64, device="cpu"))


@contextmanager
def _set(setter: Callable[..., object], value: object, before: object) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(before)


@contextmanager
def deterministic(*, warns: bool) -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=warns)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "threads": lambda: _set(torch.set_num_threads, 5, torch.get_num_threads()),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference mode": torch.inference_mode,
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "deterministic": lambda: deterministic(warns=False),
    "deterministic, warning": lambda: deterministic(warns=True),
    "default type": lambda: _set(torch.set_default_dtype, torch.float64, torch.float32),
    "default device": lambda: _set(torch.set_default_device, "meta", None),
    "device as a context": lambda: torch.device("meta"),
    "products": lambda: _set(torch.set_float32_matmul_precision, "medium", "highest"),
    "numpy": lambda: np.errstate(all="raise"),
}
any_surroundings = pytest.mark.parametrize("name", SURROUNDINGS)


@any_surroundings
def test_settings_within_all_is_ours_and_afterwards_the_callers(name: str) -> None:
    with own_settings(threads=1):
        ours = settings()
    with SURROUNDINGS[name]():
        before = settings()
        assert before != ours
        with own_settings(threads=1):
            assert settings() == ours
        assert settings() == before
        with pytest.raises(ZeroDivisionError), own_settings(threads=1):
            _ = 1 / 0
        assert settings() == before


def test_settings_products_set_by_torchs_newer_attributes_are_put_back() -> None:
    backend = torch.backends.mkldnn.matmul
    before = backend.fp32_precision
    backend.fp32_precision = "bf16"
    try:
        with own_settings():
            assert backend.fp32_precision == "ieee"
        assert backend.fp32_precision == "bf16"
    finally:
        backend.fp32_precision = before


def test_settings_generators_draw_the_same_within_and_go_on_afterwards() -> None:
    within = []
    for seed in (1, 2):
        for seeded in (random.seed, np.random.seed, torch.manual_seed):
            seeded(seed)
        expected = [draws(), draws()]
        for seeded in (random.seed, np.random.seed, torch.manual_seed):
            seeded(seed)
        found = [draws()]
        with own_settings(seed=7):
            within.append(draws())
        assert [*found, draws()] == expected
    assert within[0] == within[1]


@any_surroundings
def test_settings_model_and_its_data_are_what_they_are_in_plain_surroundings(name: str) -> None:
    def built() -> list[torch.Tensor]:
        torch.manual_seed(0)
        data = DigitsData(participants=2, feature_noise=0.1)
        model = SlimmableClassifier(data.num_classes, data.input_shape, backbone="cnn3", widths=[1.0, 0.5])
        return [*data.pooled().tensors, *data.validation().tensors, *data.test().tensors, *model.parameters()]

    plain = built()
    with SURROUNDINGS[name]():
        found = built()
    for expected, tensor in zip(plain, found, strict=True):
        assert not tensor.is_inference()
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected)


def test_settings_stream_that_lacks_a_character_shows_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    for errors in ("strict", "surrogateescape"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=errors)
        monkeypatch.setattr(sys, "stdout", stream)
        with printing_anything():
            print("mean gain · −3.3")
        assert stream.errors == errors
        stream.flush()
        assert stream.buffer.getvalue() == b"mean gain ? ?3.3\n"  # type: ignore[attr-defined]


def test_settings_of_a_worker_thread_are_its_own() -> None:
    found: list[dict[str, object]] = []

    def work() -> None:
        with own_settings(threads=1):
            found.append(settings())

    with own_settings(threads=1):
        ours = settings()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [ours]
