"""A real SLURM of two nodes on this machine: tasks find each other, and go on after a signal of the cluster."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.command import TOGETHER, largest_difference, small

NEEDED = ("slurmctld", "slurmd", "srun", "scancel", "munged")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
pytestmark = [
    pytest.mark.fault,
    pytest.mark.distributed,
    pytest.mark.skipif(bool(MISSING), reason=f"SLURM is not installed: {', '.join(MISSING)} missing"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a cluster of its own"),
]

CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
NodeName=one NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2
NodeName=two NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2
PartitionName=all Nodes=one,two Default=YES State=UP
"""
# Sends the signal to the whole job when a phase begins on the first task.
COMMAND = """
import os, subprocess, sys, time
from aequa_lightning.engine.processes.status import ProcessStatus
note, phase = ProcessStatus.note, sys.argv.pop(1)

def noted(self, **changes):
    told = note(self, **changes)
    if self.current.rank == 0 and self.current.phase == phase:
        subprocess.run(["scancel", "--signal=USR1", os.environ["SLURM_JOB_ID"]], check=True)
        time.sleep(0.5)
    return told

ProcessStatus.note = noted
from aequa_lightning.__main__ import main
sys.exit(main())
"""


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start a cluster and return the environment in which its commands find it."""
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o400)
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, ports=_free_ports(3)))
    for node in ("one", "two"):
        (folder / node).mkdir()
    files = {"socket": "munge.socket", "key-file": "key", "log-file": "munge.log", "pid-file": "munge.pid"}
    munged = ["munged", "--force", *(f"--{option}={folder}/{name}" for option, name in files.items())]
    environment = os.environ | {"SLURM_CONF": f"{folder}/slurm.conf", "MASTER_ADDR": "127.0.0.1"}
    try:
        daemons = [[*munged, f"--seed-file={folder}/seed"], ["slurmctld", "-c"]]
        for command in (*daemons, ["slurmd", "-N", "one"], ["slurmd", "-N", "two"]):
            subprocess.run(command, env=environment, check=True, capture_output=True)
        deadline = time.monotonic() + 60
        state = ["sinfo", "--noheader", "--format=%T"]
        while subprocess.run(state, env=environment, capture_output=True, text=True).stdout.strip() != "idle":
            if time.monotonic() > deadline:
                pytest.skip("SLURM is installed, but no cluster of two nodes came up within a minute")
            time.sleep(0.2)
        yield environment
    finally:
        for name in ("one.pid", "two.pid", "slurmctld.pid", "munge.pid"):
            with suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int((folder / name).read_text()), signal.SIGTERM)


def _srun(environment: dict[str, str], *command: object, nodes: int = 2) -> tuple[int, str]:
    words = ["srun", f"--nodes={nodes}", "--ntasks=2", *map(str, command)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    return done.returncode, done.stderr


def _fit(run_dir: Path) -> list[str]:
    return [*small(run_dir, devices=2), *TOGETHER, "--ckpt_path=last"]


@pytest.fixture(scope="module")
def uninterrupted(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    status, errors = _srun(cluster, sys.executable, "-m", "aequa_lightning", *_fit(run_dir), nodes=1)
    assert status == 0, errors
    return run_dir


@pytest.mark.parametrize("phase", ["training", "payout"])
def test_a_signal_of_the_cluster_leaves_a_job_that_goes_on(
    tmp_path: Path, cluster: dict[str, str], uninterrupted: Path, phase: str
) -> None:
    run_dir = tmp_path / "run"
    status, errors = _srun(cluster, sys.executable, "-c", COMMAND, phase, *_fit(run_dir))
    assert status == 75, errors
    status, errors = _srun(cluster, sys.executable, "-m", "aequa_lightning", *_fit(run_dir))
    assert status == 0, errors
    assert largest_difference(run_dir, uninterrupted) == 0
    for path in uninterrupted.glob("rewards/*.ckpt"):
        assert (run_dir / "rewards" / path.name).read_bytes() == path.read_bytes()
