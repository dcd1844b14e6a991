"""The scripts in examples/ run, and say something true."""

import json
import re
import runpy
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from aequa_lightning.callbacks.wandb import _history
from tests.helpers.command import REPOSITORY, events, fit

EXAMPLES = REPOSITORY / "examples"
RUNS = {"aequa", "fedavg", "cgsv"}


def run(monkeypatch: pytest.MonkeyPatch, script: str, *words: object) -> None:
    """Run a script as `python examples/SCRIPT` would, in this process."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("examples") / "run", participants=3)


def test_own_data(monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, "own_data.py", "--run_dir=runs/mine", "--rounds=1")
    people = json.loads(Path("runs/mine/allocation.json").read_text())["participants"]
    assert len(people) == 6
    assert min(person["test_accuracy"] for person in people) > 0.5


def test_own_network(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "own_network.py", "--run_dir=mine", "--rounds=1")
    (share,) = re.findall(r"participant-00: ([\d.]+)% on the test part", capsys.readouterr().out)
    expected = json.loads(Path("mine/rewards/manifest.json").read_text())["rewards"][0]["test_accuracy"]
    assert float(share) == pytest.approx(100 * expected, abs=0.05)


def test_compare_objectives(monkeypatch: pytest.MonkeyPatch, run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "compare_objectives.py", "--run_dir", run_dir)
    rows = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if line.startswith("│")}
    paid = json.loads((run_dir / "allocation.json").read_text())
    assert {"cv", "pearson", "nash", "full"} <= rows.keys()
    assert f"{paid['accuracy_by_width']['1.0'] - _mean_contribution(paid):.3f}" in rows["full"]


@pytest.mark.filterwarnings("ignore:Pydantic V1 style")
def test_every_plot_of_the_wandb_workspace_shows_something(monkeypatch: pytest.MonkeyPatch, run_dir: Path) -> None:
    pytest.importorskip("wandb_workspaces", reason="the extra 'workspace' is not installed")
    saved = []
    monkeypatch.setattr("wandb_workspaces.workspaces.Workspace.save", lambda self: saved.append(self) or MagicMock())
    run(monkeypatch, "wandb_workspace.py", "team", "aequa")
    keys = {key for event in events(run_dir, "round") for key in _history(event)}
    plots = [panel for section in saved[0].sections for panel in section.panels if hasattr(panel, "metric_regex")]
    assert len(plots) > 3
    for plot in plots:
        assert plot.x in keys
        assert any(re.fullmatch(plot.metric_regex, key) for key in keys), plot.title


def test_compare_mechanisms(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "compare_mechanisms.py", "--folder=runs", "--rounds=2", "--participants=3")
    rows = {line.split()[1]: line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line}
    alone = [events(Path("runs") / name, "contributions")[0]["measures"]["standalone"] for name in rows.keys() & RUNS]
    assert len(alone) == 3
    assert alone[0] == alone[1] == alone[2]
    assert rows["fedavg"][2].strip() == "undefined"
    assert Path("runs/comparison-aequa-vs-fedavg-vs-cgsv.html").is_file()


def test_training_time_rewards(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "training_time_rewards.py", "--run_dir=run", "--rounds=2", "--participants=3")
    paid = json.loads(Path("run/allocation.json").read_text())["participants"]
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│ participant-" in line]
    assert [row[0].strip() for row in rows] == [person["name"] for person in paid]
    rounds = events(Path("run"), "round")
    for index, (row, person) in enumerate(zip(rows, paid, strict=True)):
        held = [event["participants"][index]["width"] for event in rounds]
        assert [float(width) for width in row[2].split()] == pytest.approx(held, abs=0.005)
        assert float(row[3]) == pytest.approx(person["width"], abs=0.005)


def _mean_contribution(paid: dict[str, list[dict[str, float]]]) -> float:
    contributions = [person["contribution"] for person in paid["participants"]]
    return sum(contributions) / len(contributions)


def test_own_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "own_module.py", "--run_dir=own", "--rounds=1")
    assert "'1.0': " in capsys.readouterr().out
    assert len(list(Path("own/rewards").glob("*.ckpt"))) == 10
    assert len((EXAMPLES / "own_module.py").read_text().splitlines()) < 60
