"""Detects what has started the processes (torchrun, srun or this command) and checks its environment variables."""

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from typing_extensions import override

from aequa_lightning.errors import InputError

# Variables by which a launcher tells a process its rank and where the others are.
LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Ports for jobs: above those of system services, below the ephemeral ones.
FIRST_PORT, PORTS = 15000, 10000


class SrunEnvironment(SLURMEnvironment):
    """Tasks that ``srun`` has started: any number of them, on any machines of the job.

    Lightning asks for tasks that were counted by machine, and warns wherever ``srun`` is installed and not used.
    """

    @staticmethod
    @override
    def _validate_srun_used() -> None:
        pass

    @staticmethod
    @override
    def _validate_srun_variables() -> None:
        pass

    @override
    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        pass

    @property
    @override
    def main_address(self) -> str:
        # A step may run on some machines of its job only.
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
        return os.environ.get("MASTER_ADDR") or self.resolve_root_node_address(nodes)

    @property
    @override
    def main_port(self) -> int:
        given = _port(os.environ)
        return _port_of_step(os.environ) if given is None else given


class ForkEnvironment(LightningEnvironment):
    """Processes that this command forks; on several machines it is called on each.

    Attributes:
        place: Local rank; set once the process has been forked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.place = 0

    @property
    @override
    def creates_processes_externally(self) -> bool:
        return False

    @override
    def local_rank(self) -> int:
        return self.place


def cluster_environment(num_nodes: int) -> ClusterEnvironment:
    """Return the environment of the launcher that has started this process.

    Args:
        num_nodes: Number of machines.

    Raises:
        InputError: The variables contradict each other, or those of several machines are missing.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    _port(os.environ)
    if is_srun_task(os.environ):
        return SrunEnvironment()
    check_manual_start(os.environ, num_nodes)
    return ForkEnvironment()


def is_srun_task(names: Mapping[str, str]) -> bool:
    """Return whether ``srun`` has started this process, by its environment variables.

    The batch script of a job and an interactive shell are no tasks.

    Example:
        >>> is_srun_task({"SLURM_NTASKS": "2", "SLURM_TASK_PID": "17", "SLURM_STEP_ID": "0"}), is_srun_task({})
        (True, False)
        >>> is_srun_task({"SLURM_NTASKS": "2", "SLURM_TASK_PID": "17"})  # the script itself
        False
    """
    is_script = "SLURM_TASK_PID" in names and "SLURM_STEP_ID" not in names
    return "SLURM_NTASKS" in names and not is_script and names.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def check_manual_start(names: Mapping[str, str], num_nodes: int) -> None:
    """Check that no variable of a launcher is set without one, and that several machines can find each other.

    Args:
        names: Environment variables.
        num_nodes: Number of machines.

    Raises:
        InputError: The process would wait for others that do not exist.

    Example:
        >>> check_manual_start({"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}, num_nodes=2)
    """
    if "LOCAL_RANK" in names or names.get("RANK", "0") != "0":
        name = "LOCAL_RANK" if "LOCAL_RANK" in names else "RANK"
        raise InputError(
            f"{name}={names[name]} in the environment says that a launcher has started this process, but neither "
            f"torchrun nor srun has; unset {name}, or start the command with one of them."
        )
    missing = [name for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in names]
    if num_nodes > 1 and missing:
        raise InputError(
            f"trainer.num_nodes={num_nodes} needs {', '.join(missing)} in the environment of each machine's command; "
            "set them, or start the command with torchrun or srun."
        )
    if not names.get("NODE_RANK", "0").isdecimal() or int(names.get("NODE_RANK", "0")) >= num_nodes:
        raise InputError(
            f"NODE_RANK={names['NODE_RANK']} in the environment must be a number from 0 to {num_nodes - 1}, below "
            f"trainer.num_nodes={num_nodes}; correct one of the two, or unset it."
        )


@contextmanager
def without_launcher_variables() -> Iterator[None]:
    """Hide the variables of this process's job, so that runs started within the block are jobs of their own."""
    prefixes = ("SLURM_", "TORCHELASTIC_")
    names = [name for name in os.environ if name.startswith(prefixes) or name in LAUNCHER_VARIABLES]
    kept = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(kept)


def check_port(environment: ClusterEnvironment) -> None:
    """Check that the rendezvous port is free; torchrun has bound its own already.

    Raises:
        InputError: Another program listens there.
    """
    if isinstance(environment, TorchElasticEnvironment):
        return
    port = environment.main_port
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as meeting:
        # As torch does: a connection that has just been closed does not block the port.
        meeting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            meeting.bind(("", port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                return  # torch may bind in another way
            raise InputError(
                f"The processes cannot meet at port {port}: {error.strerror}. Set MASTER_PORT in the environment to a "
                "free port, the same for all processes."
            ) from error


def _port(names: Mapping[str, str]) -> int | None:
    """Return the port that the environment names.

    Example:
        >>> _port({"MASTER_PORT": "29500"}), _port({})
        (29500, None)
    """
    text = names.get("MASTER_PORT")
    if text is None:
        return None
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise InputError(
            f"MASTER_PORT={text} in the environment must be a number from 1 to 65535; correct or unset it."
        )
    return int(text)


def _port_of_step(names: Mapping[str, str]) -> int:
    """Return a port that is the same for all tasks of a step, and most likely another one for other steps and jobs.

    Example:
        >>> _port_of_step({"SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0"}), _port_of_step({"SLURM_JOB_ID": "1234567"})
        (15017, 19567)
        >>> _port_of_step({"SLURM_JOB_ID": "17", "SLURM_STEP_ID": "1"})
        16026
    """
    job, step = int(names.get("SLURM_JOB_ID", "0")), int(names.get("SLURM_STEP_ID", "0"))
    # A prime number of ports between two steps, so that a job's next step is not the next job's first.
    return FIRST_PORT + (job + 1009 * step) % PORTS
