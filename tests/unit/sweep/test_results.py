"""What a finished cell leaves, and what is read of it."""

import json
from pathlib import Path

import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.sweep.matrix import Cell
from aequa_lightning.sweep.results import METRICS, metrics_of, read_result, write_failure, write_result

CELL = Cell("digits", "even", "-", "aequa", 0)


def person(alone: float | None) -> dict[str, float | None]:
    return {"standalone_test": alone, "test_accuracy": 0.5, "accuracy": 0.5, "gain": alone and 0.5 - alone}


@pytest.mark.parametrize("keep", [False, True])
def test_models_stay_where_they_are_to_be_kept(keep: bool) -> None:
    for name in ("checkpoints", "rewards", "standalone"):
        Path("cell", name).mkdir(parents=True)
    Path("cell/allocation.json").write_text(json.dumps({"participants": [person(0.25), person(0.5)]}))
    write_result(Path("cell"), CELL, seconds=12.5, keep_models=keep)
    assert {path.name for path in Path("cell").iterdir() if path.is_dir()} == {
        "standalone",
        *(("checkpoints", "rewards") if keep else ()),
    }
    result = read_result(Path("cell"), CELL)
    assert result is not None
    assert (result.cell, result.seconds, result.metrics["mcg_test"]) == (CELL, 12.5, 0.125)


def test_without_training_alone_there_are_accuracies_and_no_gains() -> None:
    found = metrics_of({"participants": [person(None), person(None)]})
    assert found == dict.fromkeys(metric.key for metric in METRICS) | {"best_test": 0.5, "mean_test": 0.5}


def test_a_failure_is_told_in_one_line_with_its_kind_unless_it_speaks_for_itself() -> None:
    assert write_failure(Path("cell"), KeyError("width")) == "KeyError: 'width'"
    assert write_failure(Path("cell"), InputError("data is empty; fill it.\nMore.")) == "data is empty; fill it."
    assert json.loads(Path("cell/failure.json").read_text())["error"] == "data is empty; fill it.\nMore."
