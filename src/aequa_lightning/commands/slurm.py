"""``aequa slurm``: the script of a SLURM job that saves before its time limit and requeues itself."""

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from aequa_lightning.errors import InputError
from aequa_lightning.runtime.paths import user_path

# Seconds that srun lets the first task run after the others: it still writes rewards and the report.
WAIT = 600


@dataclass(frozen=True)
class Job:
    """What a job asks the cluster for, and what it runs.

    Attributes:
        config: Configuration of ``aequa fit`` or of ``aequa sweep``; which of them decides what the job is.
        run_dir: The run folder; None: that of the configuration.
        name: Name of the job.
        nodes: Number of machines, >= 1.
        processes_per_node: Processes on each of them, >= 1; None: one per GPU, or one.
        gpus_per_node: GPUs of each of them; None: no GPU.
        cpus_per_process: Cores of a process, >= 1.
        array: Number of jobs that a sweep is divided among, >= 1.
        time: Time limit, in SLURM's notation.
        notice: Seconds before the time limit at which the processes are told to save, >= 1; longer than a round takes.
        requeue: Whether a job that was told to stop, or lost a machine, is put into the queue again.
        partition: Partition; None: the cluster's default.
        account: Account; None: the user's default.
        prepare: A command that makes ``aequa`` available; None: it is.
    """

    config: str
    run_dir: str | None = None
    name: str = "aequa"
    nodes: int = 1
    processes_per_node: int | None = None
    gpus_per_node: int | None = None
    cpus_per_process: int = 1
    array: int = 1
    time: str = "01:00:00"
    notice: int = 120
    requeue: bool = True
    partition: str | None = None
    account: str | None = None
    prepare: str | None = None

    @property
    def processes(self) -> int:
        """Number of processes on each machine."""
        return self.processes_per_node or self.gpus_per_node or 1


def job_script(job: Job, options: Sequence[str] = (), *, written_by: str) -> str:
    """Return the script of a job, for ``sbatch``.

    Args:
        job: What to ask for and to run.
        options: Further options of ``aequa fit`` or ``aequa sweep``.
        written_by: The command that writes it, for its head.

    Raises:
        InputError: A value is out of range, or the configuration cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w") as file:
        ...     lines = job_script(Job(file.name, nodes=2), written_by="aequa slurm").splitlines()
        >>> [line for line in lines if "nodes" in line]
        ['#SBATCH --nodes=2', '    --trainer.devices 1 --trainer.num_nodes 2']
    """
    sweep = _is_sweep(job.config)
    _check(job, sweep=sweep)
    requests = _requests(job, sweep=sweep)
    command = _sweep_command(job) if sweep else _fit_command(job)
    if options:
        command += [shlex.join(options)]
    ending = _REQUEUE.format(job=_ARRAY_TASK if sweep else "$SLURM_JOB_ID") if job.requeue else ""
    return _SCRIPT.format(
        written_by=written_by.replace("\n", "\n# "),
        about=_SWEEP if sweep else _FIT,
        requests="\n".join(f"#SBATCH --{request}" for request in requests),
        prepare=f"{job.prepare}\n" if job.prepare else "",
        # The cores are not handed on by themselves.
        command=" \\\n    ".join([f"srun --wait={WAIT} --cpus-per-task={job.cpus_per_process}", *command]),
        ending=ending,
    )


def submit(script: str) -> str:
    """Hand a script to ``sbatch``.

    Returns:
        Its answer.

    Raises:
        InputError: There is no ``sbatch`` here, or it refuses the job.
    """
    try:
        done = subprocess.run(["sbatch"], input=script, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise InputError("--submit needs sbatch on PATH; use a login node of the cluster, or leave it out.") from error
    if done.returncode != 0:
        raise InputError(f"sbatch refuses the job: {done.stderr.strip()}")
    return done.stdout.strip()


_SCRIPT = """\
#!/bin/bash
# Written by: {written_by}
{about}
{requests}

export OMP_NUM_THREADS=1
{prepare}
{command}
status=$?
{ending}exit "$status"
"""

_FIT = """\
# A task is a process of the engine; any number of them gives the same model. Before the time limit the tasks (not this
# script) are told to stop; they save after their round and end with status 75. Started again, they go on from there."""

_SWEEP = """\
# Each task of the array runs a part of the sweep. Before the time limit it is told to stop; it saves and ends with
# status 75. Started again, it goes on from there."""

_REQUEUE = """\
if [ "$status" -eq 75 ]; then
    scontrol requeue "{job}"
fi
"""

_ARRAY_TASK = "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"


def _requests(job: Job, *, sweep: bool) -> list[str]:
    """Return what the head of the script asks for, in order: options of sbatch, with their values."""
    wanted: list[tuple[str, str | int | None]] = [
        ("job-name", job.name),
        ("partition", job.partition),
        ("account", job.account),
        ("array", f"0-{job.array - 1}" if sweep else None),
        ("nodes", job.nodes),
        ("ntasks-per-node", job.processes),
        ("cpus-per-task", job.cpus_per_process),
        ("gpus-per-node", job.gpus_per_node),
        ("time", job.time),
        ("signal", f"USR1@{job.notice}"),
        ("output", "slurm-%A_%a.out" if sweep else "slurm-%j.out"),
        # Started again, a job goes on writing where it stopped.
        ("open-mode", "append"),
    ]
    requests = [f"{key}={_quoted(str(value))}" for key, value in wanted if value is not None]
    return [*requests, "requeue" if job.requeue else "no-requeue"]


def _quoted(value: str) -> str:
    r"""Return a value as sbatch reads it in a script: as a shell would, but a backslash escapes within quotes too.

    Example:
        >>> print(_quoted("my run"), _quoted(r"a\b"), _quoted("USR1@120"))
        'my run' 'a\\b' USR1@120
    """
    return shlex.quote(value.replace("\\", "\\\\"))


def _fit_command(job: Job) -> list[str]:
    """Return the lines of the command that trains."""
    lines = [f"aequa fit --config {shlex.quote(job.config)} --ckpt_path last"]
    if job.run_dir is not None:
        lines.append(f"--trainer.run_dir {shlex.quote(job.run_dir)}")
    if job.gpus_per_node:
        lines.append("--trainer.accelerator cuda")
    return [*lines, f"--trainer.devices {job.processes} --trainer.num_nodes {job.nodes}"]


def _sweep_command(job: Job) -> list[str]:
    """Return the lines of the command that runs one part of a sweep; the part is that of the array's task."""
    lines = [f"aequa sweep --config {shlex.quote(job.config)}"]
    return lines if job.run_dir is None else [*lines, f"--sweep_dir {shlex.quote(job.run_dir)}"]


def _is_sweep(config: str) -> bool:
    """Tell whether a file configures a sweep."""
    try:
        content = yaml.safe_load(user_path(config, "--config").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"--config {config} cannot be read ({error}); give a configuration of `aequa fit`.") from error
    return isinstance(content, dict) and "axes" in content


def _check(job: Job, *, sweep: bool) -> None:
    for key in ("run_dir", "name", "time", "partition", "account"):
        text = getattr(job, key)
        if text is not None and not text.strip():
            raise InputError(f"--{key} {text!r} is empty; give a value, or leave it out.")
        if text is not None and key != "run_dir" and len(text.splitlines()) > 1:
            raise InputError(f"--{key} {text!r} has several lines, but sbatch reads one; give one line.")
    numbers = ("nodes", "processes_per_node", "gpus_per_node", "cpus_per_process", "array", "notice")
    for key in numbers:
        value = getattr(job, key)
        if value is not None and value < 1:
            raise InputError(f"--{key} {value} must be at least 1.")
    if job.gpus_per_node and job.processes != job.gpus_per_node:
        raise InputError(
            f"--processes_per_node {job.processes} must be --gpus_per_node {job.gpus_per_node}: a process has one GPU."
        )
    if sweep and (job.nodes, job.processes) != (1, 1):
        raise InputError("A sweep is divided with --array; its --nodes and --processes_per_node are 1.")
    if not sweep and job.array != 1:
        raise InputError(f"--array {job.array} divides a sweep, but {job.config} configures one run.")
