"""What `fit` returns to Python, and that a model is not trained by two runs."""

import io
import json
from pathlib import Path

import pandas
import pytest
import torch
from rich.console import Console

from aequa_lightning import CollaborativeTrainer, SlimmableClassifier
from aequa_lightning.data import DigitsData
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import Aequa
from aequa_lightning.trainer.fit_result import FitResult


def trainer(run_dir: str, rounds: int = 1) -> CollaborativeTrainer:
    mechanism = Aequa(resolution=0.5, bootstrap_samples=0)
    return CollaborativeTrainer(
        accelerator="cpu", devices=1, max_rounds=rounds, run_dir=run_dir, mechanism=mechanism, export_programs=False
    )


def build() -> tuple[SlimmableClassifier, DigitsData]:
    data = DigitsData(participants=3, train_samples=150)
    torch.manual_seed(0)
    options = {"hidden": (8,)}
    return SlimmableClassifier(10, data.input_shape, backbone="mlp", backbone_options=options, widths=(1.0, 0.5)), data


def test_fit_returns_the_run_and_refuses_to_train_the_same_model_again() -> None:
    model, data = build()
    result = trainer("run").fit(model, data)
    assert isinstance(result, FitResult)
    assert result.allocation == json.loads(Path("run/allocation.json").read_text())
    assert result.report == Path("run/report.html")
    assert all(path.is_file() for path in result.reward_files.values())
    table = result.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    told = [[row["name"], row["width"], row["accuracy"], row["gain"]] for row in result.allocation["participants"]]
    assert table[["participant", "width", "received", "gain"]].to_numpy().tolist() == told
    text = io.StringIO()
    Console(file=text, width=100).print(result)
    assert all(name in text.getvalue() and name in result._repr_html_() for name in result.reward_files)
    assert repr(result).startswith("FitResult(run_dir='run', rounds=1, pearson=")
    with pytest.raises(InputError, match=r"a fit into 'run' has trained this object.*build the model anew"):
        trainer("other").fit(model, data)
    assert not Path("other/events.jsonl").exists()
    assert len(trainer("run", rounds=2).fit(model, data, ckpt_path="last").run.rounds) == 2


def test_fit_that_was_refused_before_training_leaves_the_model_as_new() -> None:
    model, data = build()
    refused = CollaborativeTrainer(
        accelerator="cpu", devices=1, max_rounds=1, run_dir="refused", stacking=2, participant_state="keep"
    )
    with pytest.raises(InputError, match=r"trainer\.stacking=2 is not possible here"):
        refused.fit(model, data)
    assert trainer("run").fit(model, data).run.rounds
