import os
import socket
import warnings
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from lightning.fabric.plugins.environments import TorchElasticEnvironment

from aequa_lightning.engine.processes.cluster_environment import (
    ForkEnvironment,
    SrunEnvironment,
    check_port,
    cluster_environment,
)
from aequa_lightning.engine.processes.topology import ReplicaStrategy, build_fabric
from tests.helpers.command import TOGETHER, aequa, small

# What a real srun sets for its second task, of two on one machine that nobody counted by machine.
TASK = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NAME": "aequa",
    "SLURM_LOCALID": "1",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "n[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "n2",
    "SLURM_TASK_PID": "1465",
}
SCRIPT = {name: value for name, value in TASK.items() if "STEP" not in name} | {"SLURM_PROCID": "0"}


def _set(monkeypatch: pytest.MonkeyPatch, names: dict[str, str]) -> None:
    for name, value in names.items():
        monkeypatch.setenv(name, value)


def _build(devices: int = 2, num_nodes: int = 1) -> ReplicaStrategy:
    fabric = build_fabric(
        accelerator="cpu",
        devices=devices,
        num_nodes=num_nodes,
        precision="32-true",
        replicas=1,
        loggers=[],
        timeout=timedelta(minutes=1),
        run_dir=Path("run"),
    )
    assert isinstance(fabric.strategy, ReplicaStrategy)
    return fabric.strategy


@pytest.mark.parametrize("places", [{}, {"SLURM_NNODES": "2"}, {"SLURM_NTASKS_PER_NODE": "2"}])
def test_srun_tasks_run_wherever_they_are_placed(monkeypatch: pytest.MonkeyPatch, places: dict[str, str]) -> None:
    _set(monkeypatch, TASK | places)
    strategy = _build()
    environment = strategy.cluster_environment
    assert isinstance(environment, SrunEnvironment)
    assert (environment.world_size(), environment.global_rank()) == (2, 1)
    # The first machine of the step, not of the job.
    assert environment.main_address == "n2"
    assert environment.main_port == 15017


def test_srun_batch_script_is_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, SCRIPT)
    assert isinstance(_build().cluster_environment, ForkEnvironment)


def test_torchrun_takes_precedence_within_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, TASK | {"TORCHELASTIC_RUN_ID": "17", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"})
    assert isinstance(cluster_environment(1), TorchElasticEnvironment)


@pytest.mark.parametrize(
    ("names", "devices", "num_nodes", "message"),
    [
        ({"LOCAL_RANK": "0"}, 1, 1, "LOCAL_RANK=0 in the environment says that a launcher has started this process"),
        ({"LOCAL_RANK": "0"}, 2, 1, "LOCAL_RANK=0 in the environment"),
        ({"RANK": "1"}, 2, 1, "RANK=1 in the environment"),
        ({"MASTER_PORT": "abc"}, 1, 1, "MASTER_PORT=abc in the environment must be a number from 1 to 65535"),
        ({"MASTER_PORT": "70000"}, 2, 1, "MASTER_PORT=70000"),
        ({"MASTER_PORT": ""}, 2, 1, "MASTER_PORT= in the environment must be a number"),
        (TASK | {"MASTER_PORT": "abc"}, 2, 1, "MASTER_PORT=abc"),
        ({"NODE_RANK": "1"}, 2, 1, "NODE_RANK=1 in the environment must be a number from 0 to 0"),
        ({"NODE_RANK": "x"}, 2, 1, "NODE_RANK=x"),
        ({"MASTER_PORT": "29500"}, 2, 2, "trainer.num_nodes=2 needs NODE_RANK, MASTER_ADDR in the environment"),
    ],
)
def test_cluster_environment_contradictions_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    names: dict[str, str],
    devices: int,
    num_nodes: int,
    message: str,
) -> None:
    _set(monkeypatch, names)
    assert aequa(*small(Path("run"), devices=devices), f"--trainer.num_nodes={num_nodes}") == 2
    told = capsys.readouterr().err
    assert told.startswith(f"aequa: error: {message}")
    assert told.count("\n") == 1
    assert not Path("run").exists()


def test_cluster_environment_ignores_a_rank_of_zero_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, {"RANK": "0", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"})
    assert isinstance(cluster_environment(1), ForkEnvironment)


def test_cluster_environment_occupied_port_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*small(Path("run"), devices=2, rounds=1), *TOGETHER)
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = str(other.getsockname()[1])
        monkeypatch.setenv("MASTER_PORT", port)
        assert aequa(*words) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"aequa: error: The processes cannot meet at port {port}: Address already in use.")
        assert told.count("\n") == 1
    assert aequa(*words) == 0
    check_port(ForkEnvironment())  # free again


@pytest.mark.parametrize("job", [{}, SCRIPT])
def test_srun_installed_but_unused_gives_no_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], job: dict[str, str]
) -> None:
    Path("bin").mkdir()
    srun = Path("bin/srun")
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    _set(monkeypatch, job | {"PATH": f"{Path('bin').absolute()}{os.pathsep}{os.environ['PATH']}"})
    warnings.filterwarnings("error", ".*srun")
    assert aequa(*small(Path("run"), rounds=1), *TOGETHER) == 0
    for verb in ("audit", "allocate"):
        assert aequa(verb, "--run_dir", "run") == 0
    assert "srun" not in capsys.readouterr().err
