from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.accelerators import CUDAAccelerator, MPSAccelerator

from aequa_lightning.engine.processes import topology
from aequa_lightning.engine.processes.topology import ReplicaStrategy, Topology, build_fabric
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


def test_topology_single_process_needs_no_group() -> None:
    alone = Topology(_build())
    assert (alone.processes, alone.groups, alone.replicas, alone.rank) == (1, 1, 1, 0)
    table = torch.tensor([1.0, 2.0])
    assert torch.equal(alone.merge(table), table)
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
def test_topology_impossible_devices_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _build(**options)


def _torchrun_starts(processes: int) -> dict[str, str]:
    names = {"WORLD_SIZE": str(processes), "TORCHELASTIC_RUN_ID": "17"}
    return names | {"RANK": str(processes - 1), "LOCAL_RANK": str(processes - 1)}


def _srun_starts(processes: int) -> dict[str, str]:
    names = {"NTASKS": str(processes), "NTASKS_PER_NODE": str(processes), "NODEID": "0"}
    names |= {"JOB_NAME": "aequa", "PROCID": str(processes - 1), "LOCALID": str(processes - 1)}
    return {f"SLURM_{name}": value for name, value in names.items()}


@pytest.mark.parametrize("start", [_torchrun_starts, _srun_starts])
@pytest.mark.parametrize(
    ("processes", "options", "product"),
    [
        (2, {"devices": 1}, "trainer.devices=1 x trainer.num_nodes=1 is 1"),
        (2, {"devices": 3}, "trainer.devices=3 x trainer.num_nodes=1 is 3"),
        (1, {"devices": 2}, "trainer.devices=2 x trainer.num_nodes=1 is 2"),
        (2, {"devices": 2, "num_nodes": 2}, "trainer.devices=2 x trainer.num_nodes=2 is 4"),
        (3, {"devices": "auto", "num_nodes": 2}, "trainer.devices=1 x trainer.num_nodes=2 is 2"),
    ],
)
def test_topology_other_number_of_started_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[[int], dict[str, str]],
    processes: int,
    options: dict[str, object],
    product: str,
) -> None:
    for name, value in start(processes).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"{product}, but .* has started {processes} process.*: set trainer.devices"):
        _build(**options)


@pytest.mark.parametrize("start", [_torchrun_starts, _srun_starts])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_topology_auto_takes_the_started_processes(
    monkeypatch: pytest.MonkeyPatch, start: Callable[[int], dict[str, str]], processes: int, accelerator: str
) -> None:
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: False))
    for name, value in start(processes).items():
        monkeypatch.setenv(name, value)
    built = _build(devices="auto", accelerator=accelerator)
    assert isinstance(built.strategy, ReplicaStrategy)
    assert (built.world_size, built.strategy.num_processes) == (processes, processes)


def test_topology_auto_never_takes_an_apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(MPSAccelerator, "parse_devices", staticmethod(lambda devices: [0]))
    assert _build(accelerator="auto").device.type == "cpu"
    with pytest.raises(InputError, match="double precision"):
        _build(accelerator="mps")


def test_topology_replicas_read_gradients_on_the_stream_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
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
