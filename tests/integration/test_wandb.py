"""The W&B dashboard, for real without a network: what was written is read back from W&B's own files."""

import csv
import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import wandb
import yaml

from aequa_lightning.callbacks.wandb import WandbDashboard
from aequa_lightning.report import read_run
from aequa_lightning.report.sentences import outcome
from tests.helpers.command import REPOSITORY, TOGETHER, aequa, events, small
from tests.helpers.faults import run_command
from tests.helpers.wandb_file import WandbRun, read_runs

WANDB = f"--config={REPOSITORY / 'configs' / 'wandb.yaml'}"


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("surroundings")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, surroundings: Path) -> Path:
    """A run of two processes, whose home and temporary folder are only its own."""
    folder = tmp_path_factory.mktemp("dashboard") / "run"
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            (surroundings / variable).mkdir()
            patch.setenv(variable, str(surroundings / variable))
        patch.setenv("WANDB_MODE", "offline")
        patch.chdir(surroundings)

        def dashboard() -> int:
            tempfile.tempdir = None  # as this process remembers it
            return aequa(*small(folder, devices=2, rounds=3), WANDB)

        status, errors = run_command(None, dashboard)
    assert status == 0, errors
    return folder


@pytest.fixture(scope="module")
def dashboard(run_dir: Path) -> WandbRun:
    (run,) = read_runs(run_dir)
    return run


def test_there_is_one_run_by_round(run_dir: Path, dashboard: WandbRun) -> None:
    assert (dashboard.about.project, dashboard.about.display_name) == ("aequa", "run")
    assert (dashboard.about.run_group, dashboard.about.job_type) == ("run", "fit")
    assert dashboard.exit_code == 0
    # Older versions of wandb also write a line for each name that a pattern has met.
    patterns = {name: axis for name, axis in dashboard.metrics.items() if name == "round" or name.endswith("*")}
    assert patterns == {
        "round": "",
        **dict.fromkeys(("train/*", "validation_accuracy/*", "participant/*", "time/*"), "round"),
    }
    assert [row["round"] for row in dashboard.history if "round" in row] == [1, 2, 3]


def test_the_history_is_the_run_s_own_record(run_dir: Path, dashboard: WandbRun) -> None:
    for event in events(run_dir, "round"):
        number = event["round"]
        assert dashboard.series("train/loss")[number] == event["train_loss"]
        assert dashboard.series("time/round")[number] == event["seconds"]
        for phase, seconds in event["seconds_by_phase"].items():
            assert dashboard.series(f"time/{phase}")[number] == seconds
        for width, accuracy in event["validation_accuracy"].items():
            assert dashboard.series(f"validation_accuracy/{width}")[number] == accuracy
        for person in event["participants"]:
            assert {"loss", "cosine", "width"} <= person.keys()
            for key in person.keys() - {"name", "samples"}:
                assert dashboard.series(f"participant/{person['name']}/{key}")[number] == person[key]
            held = event["validation_accuracy"].get(f"{person['width']:g}")
            assert dashboard.series(f"participant/{person['name']}/accuracy").get(number) == held
        columns, rows = dashboard.table("participants", number)
        assert [dict(zip(columns, row, strict=True)) for row in rows] == [
            {**person, "accuracy": event["validation_accuracy"].get(f"{person['width']:g}")}
            for person in event["participants"]
        ]


def test_the_configuration_is_the_resolved_one(run_dir: Path, dashboard: WandbRun) -> None:
    expected = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert {key: dashboard.config[key] for key in expected} == expected


def test_tables_and_scatter_say_what_the_files_say(run_dir: Path, dashboard: WandbRun) -> None:
    people = json.loads((run_dir / "allocation.json").read_text())["participants"]
    expected = list(people[0]), [list(person.values()) for person in people]
    assert dashboard.table("allocation") == expected
    assert dashboard.table("fairness_table") == expected
    plot = dashboard.config["_wandb/visualize/fairness"]["panel_config"]
    assert plot["fieldSettings"] == {"x": "contribution", "y": "accuracy"}
    columns, rows = dashboard.table("contributions")
    with (run_dir / "contributions.csv").open() as file:
        for row, written in zip(rows, csv.DictReader(file), strict=True):
            for column, value in zip(columns, row, strict=True):
                assert value == (written[column] if isinstance(value, str) else float(written[column]))
    rewards = json.loads((run_dir / "rewards" / "manifest.json").read_text())["rewards"]
    assert dashboard.table("rewards")[1] == [list(reward.values()) for reward in rewards]


def test_the_summary_holds_the_figures_of_the_report(run_dir: Path, dashboard: WandbRun) -> None:
    allocation = json.loads((run_dir / "allocation.json").read_text())
    rewards = json.loads((run_dir / "rewards" / "manifest.json").read_text())["rewards"]
    for key in ("pearson", "pearson_test", "mcg", "cgs", "minimum_gain"):
        # None where a correlation is undefined: then W&B has no such figure either.
        assert dashboard.summary.get(key) == (allocation[key] and pytest.approx(allocation[key]))
    assert dashboard.summary["full_width"] == allocation["accuracy_by_width"]["1.0"]
    tested = [reward["test_accuracy"] for reward in rewards]
    assert dashboard.summary["best_test"] == max(tested)
    assert dashboard.summary["mean_test"] == pytest.approx(sum(tested) / len(tested))
    assert dashboard.summary["outcome"] == outcome(read_run(run_dir))


def test_the_files_are_artifacts(run_dir: Path, dashboard: WandbRun) -> None:
    allocation, rewards = dashboard.artifacts["run-allocation"], dashboard.artifacts["run-rewards"]
    assert set(allocation["aliases"]) == set(rewards["aliases"]) == {"latest", "round-3"}
    assert allocation["files"] == ["allocation.json", "config.yaml", "contributions.csv", "frontier.json"]
    assert rewards["files"] == sorted(path.name for path in (run_dir / "rewards").iterdir())


def test_nothing_lies_outside_the_run_folder(run_dir: Path, surroundings: Path) -> None:
    assert not [path for path in surroundings.rglob("*") if path.is_file() or path.parent.name == "TMPDIR"]
    assert not (run_dir / "wandb" / "temporary").exists()


@pytest.mark.slow
def test_offline_a_run_that_failed_goes_on_as_a_new_one_in_the_same_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_TAGS", "mine")
    before = _surroundings()
    with monkeypatch.context() as patch:
        patch.setattr("aequa_lightning.callbacks.Rewards.on_fit_end", MagicMock(side_effect=KeyError("broken")))
        assert aequa(*small(Path("run"), rounds=1), WANDB) == 1
    # In a run of one process that process is ours: it is left as it was.
    assert _surroundings() == before
    assert aequa(*small(Path("run"), rounds=2), WANDB, "--trainer.mechanism=SharedModel", "--ckpt_path=last") == 0
    assert _surroundings() == before
    first, second = read_runs(Path("run"))
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert first.about.run_id != second.about.run_id
    assert first.about.run_group == second.about.run_group == "run"
    assert "resumed_from" not in first.config
    assert second.config["resumed_from"] == {"id": first.about.run_id, "round": 1}
    assert (list(first.series("time/round")), list(second.series("time/round"))) == ([1], [2])


def _surroundings() -> tuple[dict[str, str], str, object]:
    variables = {name: value for name, value in os.environ.items() if name.startswith("WANDB")}
    return variables, tempfile.gettempdir(), wandb.run


def test_online_a_resumed_run_continues_the_same_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    init = MagicMock(return_value=SimpleNamespace(id="abc", define_metric=MagicMock(), finish=MagicMock()))
    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "setup", MagicMock(**{"return_value.settings.mode": "online"}))
    monkeypatch.setattr(wandb, "teardown", MagicMock())
    run: Any = SimpleNamespace(is_global_zero=True, round=0, config=SimpleNamespace(run_dir=tmp_path / "mine"))
    first, second = WandbDashboard("project", entity="team"), WandbDashboard("project", entity="team")
    for dashboard in (first, second):
        dashboard.setup(run)
        dashboard.load_state_dict({} if dashboard is first else first.state_dict())
        dashboard.on_fit_start(run)
        dashboard.on_fit_exit(run)
    arguments = [call.kwargs for call in init.call_args_list]
    assert [argument["id"] for argument in arguments] == [None, "abc"]
    for argument in arguments:
        assert argument["resume"] == "allow"
        assert (argument["project"], argument["entity"]) == ("project", "team")
        assert (argument["name"], argument["group"]) == ("mine", "mine")
        assert argument["settings"].root_dir == str(tmp_path / "mine")


def test_other_ranks_do_not_touch_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wandb, "init", MagicMock(side_effect=AssertionError))
    run: Any = SimpleNamespace(is_global_zero=False, round=0, config=SimpleNamespace(run_dir=tmp_path))
    dashboard = WandbDashboard()
    dashboard.setup(run)
    dashboard.on_fit_start(run)
    dashboard.on_fit_exit(run)
    assert dashboard.state_dict() == {"id": None}


def test_without_a_login_the_message_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert aequa(*small(Path("run")), WANDB) == 2
    assert "WANDB_MODE=offline" in capsys.readouterr().err


def test_a_run_in_which_nobody_trains_alone_has_its_tables_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert aequa(*small(Path("run"), rounds=1), *TOGETHER, WANDB) == 0
    (run,) = read_runs(Path("run"))
    columns, rows = run.table("contributions")
    assert {row[columns.index("standalone")] for row in rows} == {None}


@pytest.mark.parametrize(
    ("surroundings", "said"),
    [({}, "needs a login: run `wandb login`"), ({"WANDB_API_KEY": "short"}, "key must have 40+")],
)
def test_a_login_is_looked_for_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, surroundings: dict[str, str], said: str
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(Path.cwd()))  # where a login would lie
    monkeypatch.setenv("NETRC", "no-such-file")
    assert aequa(*small(Path("run")), WANDB) == 2
    assert said in capsys.readouterr().err
    assert not Path("run").exists()
