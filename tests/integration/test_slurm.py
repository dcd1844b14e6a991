"""Jobs for SLURM, with stand-ins for its commands; what tasks do is tested in tests/fault."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.helpers.command import DIGITS, REPOSITORY, aequa

EXAMPLES = sorted((REPOSITORY / "configs" / "slurm").glob("*.sbatch"))
# Keeps the words that it was called with, a line each.
TELL = 'printf "%s\\n" "$@" > {name}.txt; exit {status}'


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("bin").mkdir()
    monkeypatch.setenv("PATH", f"{Path('bin').absolute()}{os.pathsep}{os.environ['PATH']}")
    for name, status in {"srun": 0, "scontrol": 0}.items():
        _command(name, TELL.format(name=name, status=status))


def _command(name: str, text: str) -> None:
    path = Path("bin") / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def _script(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert aequa("slurm", *words) == 0
    return capsys.readouterr().out


def _run(script: str, **environment: str) -> int:
    done = subprocess.run(["bash"], input=script, text=True, env=os.environ | {"SLURM_JOB_ID": "17"} | environment)
    return done.returncode


def _words(name: str) -> list[str]:
    return Path(f"{name}.txt").read_text().splitlines()


def _sweep() -> Path:
    path = Path("sweep.yaml")
    path.write_text("sweep_dir: sweeps/mine\nbase: {}\naxes: {seed: [0, 1, 2]}\n")
    return path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_what_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(REPOSITORY)
    (command,) = (line for line in path.read_text().splitlines() if line.startswith("# Written by: aequa slurm "))
    words = shlex.split(command.removeprefix("# Written by: "))
    assert _script(capsys, *words[2:]) == path.read_text()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


def test_a_task_trains_what_is_configured(capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--nodes", 2, "--processes_per_node", 3, "--cpus_per_process", 4)
    script = _script(capsys, "--config", DIGITS, "--run_dir", "a $run", *size, "--", "--trainer.max_rounds", "1")
    requests = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {"--nodes=2", "--ntasks-per-node=3", "--cpus-per-task=4", "--requeue", "--signal=USR1@120"} <= {*requests}
    assert _run(script) == 0
    words = _words("srun")
    assert words[:3] == ["--wait=600", "--cpus-per-task=4", "aequa"]
    assert words[words.index("--ckpt_path") + 1] == "last"
    with pytest.raises(SystemExit):
        aequa(*words[3:], "--print_config")
    told = capsys.readouterr().out
    for line in ("devices: 3", "num_nodes: 2", "run_dir: a $run", "max_rounds: 1", "ckpt_path: last"):
        assert line in told


def test_a_gpu_for_each_process(capsys: pytest.CaptureFixture[str]) -> None:
    script = _script(capsys, "--config", DIGITS, "--gpus_per_node", 4)
    assert "#SBATCH --gpus-per-node=4" in script
    assert "#SBATCH --ntasks-per-node=4" in script
    assert _run(script) == 0
    words = _words("srun")
    assert words[words.index("--trainer.accelerator") + 1] == "cuda"
    assert words[words.index("--trainer.devices") + 1] == "4"


@pytest.mark.parametrize(("status", "requeued"), [(75, True), (0, False), (1, False)])
def test_a_job_that_was_stopped_is_queued_again(
    capsys: pytest.CaptureFixture[str], status: int, requeued: bool
) -> None:
    _command("srun", f"exit {status}")
    assert _run(_script(capsys, "--config", DIGITS)) == status
    assert Path("scontrol.txt").exists() == requeued
    if requeued:
        assert _words("scontrol") == ["requeue", "17"]


def test_a_task_of_an_array_is_queued_again_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    script = _script(capsys, "--config", _sweep(), "--array", 4, "--", "--workers", "2")
    assert "#SBATCH --array=0-3" in script
    assert _run(script) == 0
    assert _words("srun")[2:] == ["aequa", "sweep", "--config", "sweep.yaml", "--workers", "2"]
    _command("srun", "exit 75")
    assert _run(script, SLURM_ARRAY_JOB_ID="21", SLURM_ARRAY_TASK_ID="3") == 75
    assert _words("scontrol") == ["requeue", "21_3"]


def test_a_job_that_is_not_to_be_queued_again(capsys: pytest.CaptureFixture[str]) -> None:
    script = _script(capsys, "--config", DIGITS, "--requeue", "false")
    _command("srun", "exit 75")
    assert _run(script) == 75
    assert not Path("scontrol.txt").exists()
    assert "#SBATCH --no-requeue" in script


def test_a_job_is_submitted(capsys: pytest.CaptureFixture[str]) -> None:
    _command("sbatch", "cat > submitted.sbatch; echo Submitted batch job 17")
    assert _script(capsys, "--config", DIGITS, "--submit") == "Submitted batch job 17\n"
    submitted = Path("submitted.sbatch").read_text()
    assert submitted.splitlines()[1] == f"# Written by: aequa slurm --config {DIGITS} --submit"
    assert submitted.splitlines()[2:] == _script(capsys, "--config", DIGITS).splitlines()[2:]


@pytest.mark.parametrize("name", ["my run", "it's #1", '"a"', r"a\b", "$HOME", "plain"])
def test_sbatch_reads_the_values_that_were_given(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = _script(capsys, "--config", DIGITS, "--name", name, "--partition", name)
    requests = [word for line in script.splitlines() if line.startswith("#SBATCH") for word in _read_by_sbatch(line)]
    assert f"--job-name={name}" in requests
    assert f"--partition={name}" in requests
    assert all(word.startswith("--") for word in requests)


def _read_by_sbatch(line: str) -> list[str]:
    """Read a line as `_get_argument` of Slurm's src/sbatch/opt.c does: backslashes escape within all quotes."""
    reader = shlex.shlex(line.removeprefix("#SBATCH"), posix=True, punctuation_chars=False)
    reader.whitespace_split, reader.escapedquotes = True, "'\""
    return list(reader)


def test_a_preparation_of_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    prepare = "touch module\ntouch venv\n#SBATCH --time=1"
    script = _script(capsys, "--config", DIGITS, "--prepare", prepare)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    head = script[: script.index("#SBATCH --job-name")].splitlines()
    assert all(line.startswith("# ") for line in head[1:])
    assert f"\n{prepare}\n\nsrun" in script
    assert _run(script) == 0
    assert Path("module").exists()
    assert Path("venv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--config", "torn.yaml"], "--config torn.yaml cannot be read"),
        (["--config", "sweep.yaml", "--processes_per_node", 2], "divided with --array"),
        (["--config", DIGITS, "--nodes", 0], "--nodes 0 must be at least 1"),
        (["--config", DIGITS, "--gpus_per_node", 4, "--processes_per_node", 2], "a process has one GPU"),
        (["--config", DIGITS, "--array", 3], "--array 3 divides a sweep"),
        (["--config", "sweep.yaml", "--nodes", 2], "divided with --array"),
        (["--config", DIGITS, "--time", ""], "--time '' is empty"),
        (["--config", DIGITS, "--name", " "], "--name ' ' is empty"),
        (["--config", DIGITS, "--run_dir", ""], "--run_dir '' is empty"),
        (["--config", DIGITS, "--account", "a\nb"], "--account 'a\\nb' has several lines"),
        (["--config", DIGITS, "--submit"], "sbatch refuses the job: no such partition"),
    ],
)
def test_what_cannot_be_is_refused(words: list[object], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    _sweep()
    Path("torn.yaml").write_text("trainer: {max_rounds: [1")
    _command("sbatch", "echo no such partition >&2; exit 1")
    assert aequa("slurm", *words) == 2
    assert message in capsys.readouterr().err


def test_without_sbatch_nothing_is_submitted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "bin")
    assert aequa("slurm", "--config", DIGITS, "--submit") == 2
    assert "needs sbatch on PATH" in capsys.readouterr().err


def test_a_job_goes_where_and_for_whom_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    script = _script(capsys, "--config", DIGITS, "--partition", "long", "--account", "mine")
    requests = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {"--partition=long", "--account=mine"} <= {*requests}


def test_words_with_blanks_reach_the_command_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    config, block = Path("my digits.yaml"), "{class_path: Dirichlet, init_args: {alpha: 1.0}}"
    config.write_text(DIGITS.read_text())
    assert _run(_script(capsys, "--config", config, "--", "--data.partition", block)) == 0
    words = _words("srun")
    assert words[words.index("--config") + 1] == str(config)
    assert words[words.index("--data.partition") + 1] == block


def test_the_folder_of_a_sweep_is_that_of_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(_script(capsys, "--config", _sweep(), "--run_dir", "sweeps/of all")) == 0
    assert _words("srun")[2:] == ["aequa", "sweep", "--config", "sweep.yaml", "--sweep_dir", "sweeps/of all"]


@pytest.mark.parametrize("key", ["processes_per_node", "gpus_per_node", "cpus_per_process", "array", "notice"])
def test_a_number_below_one_is_refused_by_name(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert aequa("slurm", "--config", DIGITS, f"--{key}", 0) == 2
    assert f"--{key} 0 must be at least 1" in capsys.readouterr().err
