from datetime import timedelta
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric

from aequa_lightning.collaboration.topology import Topology, build_fabric
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
    topology = Topology(_build())
    assert (topology.processes, topology.groups, topology.replicas, topology.rank) == (1, 1, 1, 0)
    table = torch.tensor([1.0, 2.0])
    assert torch.equal(topology.share(table), table)
    assert topology.any(True)
    assert not topology.any(False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicas": 2}, "trainer.replicas=2"),
        ({"devices": 3, "replicas": 2}, "trainer.replicas=2 does not divide the 3 processes"),
        ({"accelerator": "cuda"}, "trainer.accelerator='cuda'"),
        ({"devices": 0}, "trainer.devices=0"),
        ({"precision": "8-bit"}, "trainer.precision='8-bit'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _build(**options)
