import warnings

import pytest
from lightning.fabric import Fabric

from aequa_lightning.engine.processes import precision
from aequa_lightning.engine.processes.precision import warn_of_slow_precision


def test_bfloat16_warning_on_a_slow_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cost_of_bfloat16", lambda: 10.5)
    with pytest.warns(UserWarning, match=r"trainer\.precision=bf16-mixed: .* takes 10\.5 times as long"):
        warn_of_slow_precision(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))


@pytest.mark.parametrize(("chosen", "cost"), [("bf16-mixed", 1.1), ("32-true", 10.5)])
def test_bfloat16_no_warning_on_a_fast_processor_or_in_float32(
    monkeypatch: pytest.MonkeyPatch, chosen: str, cost: float
) -> None:
    monkeypatch.setattr(precision, "cost_of_bfloat16", lambda: cost)
    fabric = Fabric(accelerator="cpu", devices=1, precision=chosen)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_slow_precision(fabric)
