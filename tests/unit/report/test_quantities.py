import json
from pathlib import Path

import pytest

from aequa_lightning.report import read_run
from aequa_lightning.report.quantities import RUN, run_figures
from tests.helpers.fake_run import write_fake_run


def test_the_figures_of_a_run_are_those_of_its_files(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", participants=5, rounds=2)
    allocation = json.loads((folder / "allocation.json").read_text())
    found = run_figures(read_run(folder))
    assert list(found) == list(RUN)
    for key in ("pearson", "pearson_test", "mcg", "cgs", "minimum_gain"):
        assert found[key] == allocation[key]
    tested = [person["test_accuracy"] for person in allocation["participants"]]
    assert (found["best_test"], found["mean_test"]) == (max(tested), pytest.approx(sum(tested) / 5))
    assert found["full_width"] == allocation["accuracy_by_width"]["1"]


def test_what_a_run_has_not_reached_or_cannot_have_is_left_out(tmp_path: Path) -> None:
    alike = write_fake_run(tmp_path / "alike", participants=3, rounds=2, equal_rewards=True)
    assert run_figures(read_run(alike)).keys() == RUN.keys() - {"pearson", "pearson_test"}
    stopped = write_fake_run(tmp_path / "stopped", participants=3, rounds=2, finished=False)
    assert run_figures(read_run(stopped)).keys() == {"full_width"}
