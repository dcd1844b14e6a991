"""A run that was made from Python and is looked after from the shell."""

import copy
import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from aequa_lightning import CollaborativeTrainer, SlimmableClassifier
from aequa_lightning.adversaries import Replay
from aequa_lightning.cli.lightning_cli import AequaCLI
from aequa_lightning.commands.audit import audit_run
from aequa_lightning.data import DigitsData, Dirichlet
from aequa_lightning.mechanisms import Aequa
from tests.helpers.command import aequa

OWN = """
from torch import nn
def net(num_classes, input_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))
"""


def fit(backbone: Any, **options: Any) -> tuple[CollaborativeTrainer, SlimmableClassifier, DigitsData]:
    data = DigitsData(participants=3, partition=Dirichlet(5.0), train_samples=150)
    torch.manual_seed(0)
    model = SlimmableClassifier(10, data.input_shape, backbone=backbone, widths=(1.0, 0.5))
    trainer = CollaborativeTrainer(
        accelerator="cpu",
        devices=1,
        max_rounds=1,
        run_dir="run",
        mechanism=Aequa(resolution=0.5, bootstrap_samples=0),
        report=False,
        export_programs=False,
        seed=7,
        **options,
    )
    trainer.fit(model, data)
    return trainer, model, data


def test_python_run_is_audited_and_paid_again_from_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("network_from_python.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    import network_from_python  # type: ignore[import-not-found]

    options = {"adversaries": [Replay([1], age=1)], "logger": CSVLogger("logs")}
    trainer, model, data = fit(network_from_python.net, **options)
    cli = AequaCLI(["fit", "--config", "run/config.yaml"], execute=False)
    (adversary,) = cli.trainer.config.adversaries
    assert isinstance(adversary, Replay)
    assert adversary.arguments == {"participants": [1], "age": 1, "mix": 0.0, "scale": 1.0}
    for key in ("work", "mechanism", "seed", "max_rounds", "run_dir", "aggregator", "participation", "threads"):
        assert getattr(cli.trainer.config, key, None) == getattr(trainer.config, key, None), key
    for key, value in model.hparams.items():
        assert cli.model.hparams[key] == (list(value) if key == "widths" else value), key
    assert cli.datamodule.describe() == data.describe()
    assert aequa("audit", "--run_dir", "run") == 0
    assert aequa("allocate", "--run_dir", "run", "--slope", "1.5") == 0
    assert json.loads(Path("run/allocation.json").read_text())["slope"] == 1.5
    reward = "run/rewards/participant-00.ckpt"
    assert aequa("test", "--config", "run/config.yaml", "--ckpt_path", reward) == 0


def test_python_run_that_no_file_can_describe_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    class Local(nn.Sequential):
        pass

    network = Local(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    _, model, data = fit(network)
    assert not Path("run/config.yaml").exists()
    reason = "model.backbone=<Local> is no function of a module; put the function that builds it into a .py file"
    assert f"config   none, for {reason}" in capsys.readouterr().out
    assert aequa("audit", "--run_dir", "run") == 2
    told = capsys.readouterr().err
    assert f"holds no config.yaml; the run was made from Python, and {reason}" in told
    assert "aequa_lightning.commands.audit.audit_run" in told
    assert audit_run(Path("run"), model, data)
    Path("empty").mkdir()
    assert aequa("audit", "--run_dir", "empty") == 2
    assert "give the folder of a run of `aequa fit`" in capsys.readouterr().err


def test_arguments_are_known_after_a_copy_and_shown_as_those_of_the_class() -> None:
    data = DigitsData(participants=3, partition=Dirichlet(5.0))
    for one in (data, copy.copy(data), pickle.loads(pickle.dumps(data))):
        assert one.arguments == {"participants": 3, "partition": Dirichlet(5.0)}
    assert "participants" in inspect.signature(DigitsData).parameters
