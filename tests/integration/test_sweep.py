"""A matrix of small runs: what is shared, what a failure leaves alone, how it goes on, what it ends with."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from aequa_lightning.run_folder.lock import try_lock
from aequa_lightning.sweep.matrix import Cell
from aequa_lightning.sweep.pool import Worker
from tests.helpers.command import aequa, events
from tests.helpers.faults import run_command

MATRIX: dict[str, Any] = {
    "sweep_dir": "sweep",
    "base": {
        "trainer": {"accelerator": "cpu", "devices": 1, "max_rounds": 2, "checkpoint_every": 100},
        "model": {
            "class_path": "SlimmableClassifier",
            "init_args": {"backbone": "mlp", "backbone_options": {"hidden": [16]}, "widths": [1.0, 0.5, 0.25]},
        },
        "data": {"class_path": "DigitsData", "init_args": {"participants": 3, "train_samples": 300}},
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
    },
    "axes": {
        "partition": {
            "even": None,
            "skew": {"data": {"init_args": {"partition": {"class_path": "LabelSkew", "init_args": {"classes": 7}}}}},
        },
        "mechanism": {
            "aequa": {"trainer": {"mechanism": {"class_path": "Aequa", "init_args": {"resolution": 0.2}}}},
            "fedavg": {"trainer": {"mechanism": "SharedModel"}, "model": {"init_args": {"widths": [1.0]}}},
        },
        "seed": [0, 1],
    },
}

TROUBLE = """
import os

from aequa_lightning.engine.callback import CollaborationCallback

class Raises(CollaborationCallback):
    def on_round_end(self, run, result):
        raise RuntimeError("no luck in round 1")

class Dies(CollaborationCallback):
    def on_round_end(self, run, result):
        os._exit(9)
"""


SMALLER = {**MATRIX, "axes": {**MATRIX["axes"], "seed": [0]}}


def write(matrix: dict[str, Any] = MATRIX) -> Path:
    path = Path("sweep.yaml")
    path.write_text(yaml.safe_dump(matrix))
    return path


def with_mechanisms(**mechanisms: Any) -> dict[str, Any]:
    return {**MATRIX, "axes": {**MATRIX["axes"], "mechanism": MATRIX["axes"]["mechanism"] | mechanisms}}


def cell(*names: object) -> Path:
    return Path("sweep", "cells", "-", str(names[0]), "-", *map(str, names[1:]))


def table(name: str, folder: str = "sweep") -> list[dict[str, str]]:
    with Path(folder, name).open() as file:
        return list(csv.DictReader(file))


def finished() -> list[Path]:
    return sorted(Path("sweep").rglob("result.json"))


def figures(folder: str = "sweep") -> list[dict[str, str]]:
    rows = table("results.csv", folder)
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_a_sweep_from_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert aequa("sweep", "--config", write(), "--workers=2") == 0
    assert len(finished()) == 8
    # What participants reach alone was trained once for the mechanisms of a group.
    alone = [path.name for path in Path("sweep/standalone").iterdir()]
    assert len(alone) == 4
    for partition in ("even", "skew"):
        one, other = (events(cell(partition, mechanism, 1), "standalone") for mechanism in ("aequa", "fedavg"))
        assert [event["seconds"] for event in one] == [event["seconds"] for event in other]
    # A cell is the run of its configuration, with the same figures.
    matrix = json.loads((cell("skew", "aequa", 1) / "cell.json").read_text())
    Path("one.yaml").write_text(yaml.safe_dump(matrix))
    assert aequa("fit", "--config", "one.yaml", "--trainer.run_dir=one") == 0
    assert json.loads(Path("one/allocation.json").read_text()) == json.loads(
        (cell("skew", "aequa", 1) / "allocation.json").read_text()
    )
    # The tables agree with the runs.
    rows = json.loads(Path("one/allocation.json").read_text())["participants"]
    (own,) = [
        row
        for row in table("results.csv")
        if (row["partition"], row["mechanism"], row["seed"]) == ("skew", "aequa", "1")
    ]
    assert float(own["best_test"]) == max(row["test_accuracy"] for row in rows)
    assert float(own["minimum_gain_test"]) == min(row["test_accuracy"] - row["standalone_test"] for row in rows)
    assert len(table("table.csv")) == 4
    assert {row["mechanism"] for row in table("ranks.csv")} == {"aequa", "fedavg"}
    assert all(Path("sweep", name).stat().st_size > 200 for name in ("table.md", "table.tex", "sweep.png", "sweep.pdf"))
    assert "skew" in capsys.readouterr().out
    # Models, pages and pictures of single runs are left out.
    assert not [path for path in Path("sweep/cells").rglob("*") if path.suffix in (".ckpt", ".pt2", ".html", ".png")]

    # Finished cells never run again; another configuration under their name is refused.
    times = {path: path.stat().st_mtime_ns for path in Path("sweep/cells").rglob("*")}
    assert aequa("sweep", "--config", write()) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("sweep/cells").rglob("*")} == times
    changed = {**MATRIX, "base": {**MATRIX["base"], "lr_scheduler": "ConstantLR"}}
    assert aequa("sweep", "--config", write(changed)) == 2
    assert "cell -/even/-/aequa/0 was run with another configuration" in capsys.readouterr().err


def test_a_failed_cell_stops_nobody_else(capsys: pytest.CaptureFixture[str]) -> None:
    Path("trouble.py").write_text(TROUBLE)
    trouble = {
        name.lower(): {"trainer": {"callbacks": [{"class_path": f"trouble.{name}"}]}} for name in ("Raises", "Dies")
    }
    words = ("--workers=1", "--only={partition: even, seed: 0}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(".")
        with pytest.raises(SystemExit) as ended:
            aequa("sweep", "--config", write(with_mechanisms(**trouble, last=None)), *words)
        assert ended.value.code == 1
        assert [path.parts[-3] for path in finished()] == ["aequa", "fedavg", "last"]
        told = capsys.readouterr().out
        assert re.search("even/-/raises/0: .*no luck in round 1", told)
        assert "even/-/dies/0: its process ended with status 9" in told
        failure = json.loads((cell("even", "raises", 0) / "failure.json").read_text())
        assert any("on_round_end" in line for line in failure["traceback"])
        # Once the cause is gone, the same command makes them good.
        Path("trouble.py").write_text(TROUBLE.replace("raise RuntimeError", "print").replace("os._exit", "print"))
        patch.delitem(sys.modules, "trouble")
        assert aequa("sweep", "--config", write(with_mechanisms(**trouble, last=None)), *words) == 0
    assert len(finished()) == 5
    assert not list(Path("sweep").rglob("failure.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mechanism": {"fedavg": {"trainer": {"max_round": 3}}}}, r"cell -/even/-/fedavg/0: .*max_round"),
        ({"partition": {"odd": {"data": {"init_args": {"partition": "Odd"}}}}}, r"cell -/odd/-/aequa/0: .*Odd"),
        ({"network": {"x": {"model": {"init_args": {"backbone": "y"}}}}}, r"cell -/even/x/aequa/0: .*'y' is unknown"),
    ],
)
def test_every_cell_is_looked_at_before_the_first_one_runs(
    change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = {axis: {**(MATRIX["axes"].get(axis) or {}), **values} for axis, values in change.items()}
    assert aequa("sweep", "--config", write({**MATRIX, "axes": {**MATRIX["axes"], **axes}})) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(message, error), error
    assert not Path("sweep").exists()


@pytest.mark.parametrize("words", [("--index=2", "--count=2"), ("--index=0",), ("--reference=x",), ("--only={x: y}",)])
def test_options_that_make_no_sense(words: tuple[str, ...]) -> None:
    assert aequa("sweep", "--config", write(), *words) == 2


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def test_a_cell_with_a_damaged_file_runs_again() -> None:
    words = ("sweep", "--config", write(SMALLER), "--workers=2")
    assert aequa(*words) == 0
    whole = figures()
    damages = {"allocation.json": tear, "allocation.json ": Path.unlink, "result.json": tear, "cell.json": tear}
    places = [cell(partition, mechanism, 0) for partition in ("even", "skew") for mechanism in ("aequa", "fedavg")]
    damaged = [place / name.strip() for place, name in zip(places, damages, strict=True)]
    for path, damage in zip(damaged, damages.values(), strict=True):
        damage(path)
    with pytest.warns(UserWarning, match="counts as unfinished") as told:
        assert aequa(*words) == 0
    said = [str(warning.message) for warning in told]
    for path in damaged:
        assert any(f"counts as unfinished: {path} " in line for line in said)
        json.loads(path.read_text())
    assert figures() == whole


def test_a_folder_that_cannot_be_written_is_named_by_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert aequa("sweep", "--config", write(SMALLER), "--sweep_dir=file/sweep") == 2
    assert "aequa: error: sweep_dir='file/sweep' cannot be written" in capsys.readouterr().err


def send_when_the_next_cell_begins(number: signal.Signals) -> AbstractContextManager[object]:
    """Send this process a signal when one cell has finished and the next has been handed over."""
    hand_over = Worker.give

    def give(worker: Worker, cell: Cell) -> None:
        hand_over(worker, cell)
        if finished():
            os.kill(os.getpid(), number)

    return mock.patch.object(Worker, "give", give)


def test_a_stopped_sweep_and_the_parts_of_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    with send_when_the_next_cell_begins(signal.SIGTERM), pytest.raises(SystemExit) as ended:
        aequa("sweep", "--config", write(SMALLER), "--workers=1")
    assert ended.value.code == 75
    assert 0 < len(finished()) < 4
    assert not Path("sweep/results.csv").exists()
    # The rest, as two tasks of an array.
    for task in (3, 4):
        monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "3")
        monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        assert aequa("sweep", "--config", write(SMALLER), "--workers=1") == 0
    assert len(figures()) == 4


@pytest.mark.fault
def test_a_killed_sweep_goes_on_and_ends_alike() -> None:
    words = ("sweep", "--config", write(SMALLER), "--only={partition: skew}")

    def killed_sweep() -> int:
        with send_when_the_next_cell_begins(signal.SIGKILL):
            return aequa(*words, "--workers=2")

    assert run_command(None, killed_sweep)[0] == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in finished()}
    assert kept
    assert aequa(*words, "--workers=2") == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    killed = figures()
    assert aequa(*words, "--workers=1", "--sweep_dir=whole") == 0
    assert figures("whole") == killed


def test_cells_that_are_left_are_told_and_models_stay_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    only = "--only={partition: skew, mechanism: aequa, seed: 1}"
    assert aequa("sweep", "--config", write(), only, "--keep_models=true", "--workers=1") == 0
    assert "7 cells are not in it" in capsys.readouterr().out
    folder = Path("sweep/cells/-/skew/-/aequa/1")
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert len(list((folder / "rewards").glob("*.ckpt"))) == 3
    assert aequa("audit", "--run_dir", folder) == 0


def test_two_sweeps_in_one_folder_share_the_work() -> None:
    write(SMALLER)
    words = ["--config=sweep.yaml", "--only={partition: even}", "--workers=1"]
    command = [sys.executable, "-m", "aequa_lightning", "sweep", *words]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [sweep.communicate()[0] for sweep in both]
    assert [sweep.returncode for sweep in both] == [0, 0], said
    assert len(finished()) == 2
    # None ran twice.
    assert all(len(events(path.parent, "finish")) == 1 for path in finished())
    assert not list(Path("sweep").rglob("failure.json"))
    assert len(table("results.csv")) == 2


def test_a_cell_that_another_sweep_has_is_left_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("sweep", "--config", write(SMALLER), "--only={partition: even}", "--workers=2")
    with try_lock(cell("even", "aequa", 0) / ".cell.lock") as ours:
        assert ours
        assert aequa(*words) == 0
    assert len(finished()) == 1
    assert "1 cells are left to another sweep in this folder" in " ".join(capsys.readouterr().out.split())
    assert aequa(*words) == 0
    assert len(finished()) == 2
    assert "left to another" not in capsys.readouterr().out
    # What another command left of a vain attempt does not outlive a success.
    (cell("even", "aequa", 0) / "failure.json").write_text('{"error": "in vain", "traceback": []}')
    assert aequa(*words) == 0


def test_a_sweep_within_a_job_runs_cells_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # A task of two in a job, as far as the environment knows.
    for name, value in {"NTASKS": "2", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NAME": "aequa"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert aequa("sweep", "--config", write(SMALLER), "--only={partition: even, mechanism: fedavg}") == 0
    assert len(finished()) == 1
    assert os.environ["SLURM_NTASKS"] == "2"


def test_as_many_processes_run_cells_as_are_asked_for() -> None:
    with mock.patch("aequa_lightning.sweep.command.run_cells") as run:
        aequa("sweep", "--config", write(), "--workers=7")
    assert run.call_args.kwargs["workers"] == 7
