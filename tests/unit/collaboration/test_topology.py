from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.accelerators import MPSAccelerator

from aequa_lightning.collaboration import topology
from aequa_lightning.collaboration.topology import ReplicaStrategy, Topology, build_fabric
from aequa_lightning.errors import InputError


def _build(**options: object) -> Fabric:
    arguments = {
        "accelerator": "cpu",
        "devices": 1,
        "num_nodes": 1,
        "precision": "32-true",
        "replicas": 1,
        "loggers": [],
        "timeout": timedelta(minutes=1),
        "run_dir": Path("run"),
    }
    return build_fabric(**arguments | options)  # type: ignore[arg-type]


def test_a_single_process_needs_no_group() -> None:
    alone = Topology(_build())
    assert (alone.processes, alone.groups, alone.replicas, alone.rank) == (1, 1, 1, 0)
    table = torch.tensor([1.0, 2.0])
    assert torch.equal(alone.share(table), table)
    assert alone.any(True)
    assert not alone.any(False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicas": 2}, "trainer.replicas=2"),
        ({"devices": 3, "replicas": 2}, "trainer.replicas=2 does not divide the 3 processes"),
        ({"accelerator": "cuda"}, "trainer.accelerator='cuda'"),
        ({"devices": 0}, "trainer.devices=0"),
        ({"precision": "8-bit"}, "trainer.precision='8-bit'"),
        ({"devices": "two"}, "trainer.devices='two'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _build(**options)


def test_apples_gpus_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(MPSAccelerator, "parse_devices", staticmethod(lambda devices: [0]))
    assert _build(accelerator="auto").device.type == "cpu"
    with pytest.raises(InputError, match="double precision"):
        _build(accelerator="mps")


def test_replicas_read_gradients_on_the_stream_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("another stream")

    given: dict[str, Any] = {}
    monkeypatch.setattr(torch.cuda, "Stream", refuse)
    monkeypatch.setattr(topology, "DistributedDataParallel", lambda module, **options: given.update(options))
    strategy = ReplicaStrategy(2, run_dir=Path("run"))
    monkeypatch.setattr(strategy, "_determine_ddp_device_ids", lambda: [1])
    strategy.same_group = cast(Any, "same group")
    strategy.setup_module(torch.nn.Linear(1, 1))
    assert given == {"device_ids": [1], "process_group": "same group"}
