"""A measure, a mechanism and a data set of one's own, each in one file."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aequa_lightning.contributions import MEASURES
from tests.helpers.command import TOGETHER, aequa, events, fit, small

MEASURE = """
import torch

from aequa_lightning.contributions import Measure, RunningSum

LENGTH = Measure("length", "how long each update is", ("squared_lengths",), torch.sqrt, RunningSum)
"""

MECHANISM = """
from dataclasses import dataclass

from aequa_lightning.mechanisms import PaidByWidth
from aequa_lightning.rewards import allocate_widths


@dataclass(frozen=True)
class OnlyTheTop(PaidByWidth):
    contribution: str = "data_share"

    def allocate(self, contributions, accuracy_by_width, *, standalone, held):
        top = max(contributions)
        floors = [1.0 if one == top else 0.0 for one in contributions]
        return allocate_widths(contributions, accuracy_by_width, "pearson", floors=floors)
"""

DATA = """
import torch

from aequa_lightning.data import CollaborativeData
from aequa_lightning.data.module import Split


class Stripes(CollaborativeData):
    num_classes = 2
    input_shape = (4,)

    def load(self):
        generator = torch.Generator().manual_seed(0)
        targets = torch.arange(600) % 2
        inputs = torch.randn(600, 4, generator=generator) + 3 * targets[:, None]
        return Split(inputs[:500], targets[:500]), Split(inputs[500:], targets[500:])
"""


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own_extension.py"
    yield path
    sys.modules.pop("own_extension", None)


def test_extension_measure_is_paid_by_and_explained(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_file.write_text(MEASURE)
    # What a line in the list of contributions/measures.py does.
    monkeypatch.setitem(MEASURES, "length", importlib.import_module("own_extension").LENGTH)
    paid = (
        "--trainer.mechanism=Aequa",
        "--trainer.mechanism.contribution=length",
        "--trainer.mechanism.objective=proportional",
        "--trainer.mechanism.individually_rational=false",
    )
    run_dir = fit(Path("run"), *TOGETHER, *paid)
    people = json.loads((run_dir / "allocation.json").read_text())["participants"]
    rounds = events(run_dir, "round")
    for place, person in enumerate(people):
        lengths = [event["participants"][place]["length"] for event in rounds]
        assert all(length > 0 for length in lengths)
        assert person["contribution"] == pytest.approx(sum(lengths))
    assert aequa("report", "--run_dir", run_dir) == 0
    assert "how long each update is" in (run_dir / "report.html").read_text()
    assert aequa("audit", "--run_dir", run_dir) == 0


def test_extension_mechanism_is_its_class_path(own_file: Path) -> None:
    own_file.write_text(MECHANISM)
    run_dir = fit(Path("run"), *TOGETHER, "--trainer.mechanism=own_extension.OnlyTheTop")
    allocation = json.loads((run_dir / "allocation.json").read_text())
    assert allocation["objective"] == "pearson"
    top = max(allocation["participants"], key=lambda person: person["contribution"])
    assert top["width"] == 1
    assert aequa("audit", "--run_dir", run_dir) == 0


def test_extension_data_set_is_its_class_path(own_file: Path) -> None:
    own_file.write_text(DATA)
    words = [word for word in small(Path("run")) if not word.startswith("--data")]
    options = ("--data=own_extension.Stripes", "--data.participants=4", "--data.partition=Homogeneous")
    assert aequa(*words, *TOGETHER, *options) == 0
    rows = json.loads(Path("run/rewards/manifest.json").read_text())["rewards"]
    assert len(rows) == 4
    assert all(row["test_accuracy"] > 0.9 for row in rows)


@pytest.mark.parametrize("key", ["trainer.assessment.measures", "trainer.mechanism.contribution"])
def test_extension_measure_that_is_in_no_list_is_refused(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    value = "[length]" if key.endswith("measures") else "length"
    assert aequa(*small(Path("run")), "--trainer.mechanism.objective=pearson", f"--{key}={value}") == 2
    told = capsys.readouterr().err
    assert f"{key} names the measure 'length', which is unknown; choose among standalone, data_share, cosine" in told
