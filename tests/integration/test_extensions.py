"""A measure, a mechanism and a data set of one's own, each in one file."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lightning import Trainer

from aequa_lightning.contributions import MEASURES
from aequa_lightning.data import DiabetesData
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

MODULE = """
from aequa_lightning.data import DiabetesData
from aequa_lightning.modules import SlimmableModule


class Robust(SlimmableModule):
    score_name = "closeness"

    def __init__(self, num_classes, input_shape, *, limit=1.0, **options):
        super().__init__(num_classes, input_shape, **options)
        self.limit = limit

    def loss(self, outputs, batch):
        return (outputs[:, 0] - batch[1]).abs().clamp(max=self.limit).mean()

    def score(self, outputs, batch):
        return (-(outputs[:, 0] - batch[1]).abs()).exp()
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


def test_extension_module_is_its_class_path_for_the_engine_and_for_lightning(own_file: Path) -> None:
    own_file.write_text(MODULE)
    Path("own.yaml").write_text(
        """
        trainer:
          max_rounds: 2
          report: false
          export_programs: false
          mechanism: {class_path: Aequa, init_args: {resolution: 0.5}}
        model: {class_path: own_extension.Robust, init_args: {backbone: mlp, widths: [1.0, 0.5], limit: 3.0}}
        data: {class_path: DiabetesData, init_args: {participants: 3}}
        """
    )
    assert aequa("fit", "--config", "own.yaml", "--trainer.run_dir", "run") == 0
    assert aequa("audit", "--run_dir", "run") == 0
    (start,) = events(Path("run"), "start")
    assert start["data"]["class_counts"] == []
    assert all(alone["guessing_accuracy"] is None for alone in events(Path("run"), "standalone"))
    module, data = importlib.import_module("own_extension"), DiabetesData(participants=3)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "log_every_n_steps": 1}
    trainer = Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet)
    trainer.fit(module.Robust(1, (10,), backbone="mlp", widths=(1.0, 0.5)), datamodule=data)
    assert 0 < trainer.callback_metrics["validation_closeness/0.5"] < 1
