"""Objects of Lightning's own kind, and models that do not fit their data, are refused in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader

from aequa_lightning import CollaborativeTrainer, SlimmableClassifier
from aequa_lightning.data import DigitsData
from aequa_lightning.errors import InputError


def trainer(**options: Any) -> CollaborativeTrainer:
    return CollaborativeTrainer(accelerator="cpu", devices=1, **{"run_dir": "run"} | options)


def model(**options: Any) -> SlimmableClassifier:
    given: dict[str, Any] = {"num_classes": 10, "input_shape": (1, 8, 8), "backbone": "mlp", "widths": (1.0, 0.5)}
    return SlimmableClassifier(**given | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"callbacks": [EarlyStopping("x")]}, r"Lightning.s EarlyStopping does not know rounds"),
        ({"callbacks": EarlyStopping("x")}, r"trainer.callbacks is an EarlyStopping of lightning; give a list"),
        ({"logger": True}, r"trainer.logger is True; give a Logger of lightning.pytorch.loggers"),
        ({"logger": ["csv"]}, r"trainer.logger is 'csv'; give a Logger"),
        ({"mechanism": "Aequa"}, r"trainer.mechanism is a str; it must derive from Mechanism"),
        ({"aggregator": dict}, r"trainer.aggregator is the class dict; it must derive from Aggregator"),
        ({"adversaries": [3]}, r"trainer.adversaries holds an int; it must derive from Adversary"),
        ({"run_dir": 3}, r"trainer.run_dir is an int; give a path"),
    ],
)
def test_options_of_another_class(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        trainer(**options)


def test_logger_that_is_off_and_a_path_object_are_taken() -> None:
    assert trainer(logger=False, run_dir=Path("mine")).config.run_dir == Path("mine")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (LightningModule(), r"model is a LightningModule of lightning; it must derive from SlimmableModule"),
        (torch.nn.Linear(2, 3), r"model is a Linear of torch; write SlimmableClassifier\(.*backbone=network\)"),
        (SlimmableClassifier, r"model is the class SlimmableClassifier"),
        (model(num_classes=9), r"model.num_classes is 9, but DigitsData has 10; build the model with num_classes="),
        (model(num_classes=12), r"model.num_classes is 12, but DigitsData has 10"),
        (model(input_shape=(1, 4, 4)), r"model.input_shape is \(1, 4, 4\), but DigitsData has \(1, 8, 8\)"),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "test"])
def test_models_that_do_not_fit(wrong: Any, message: str, verb: str) -> None:
    with pytest.raises(InputError, match=message):
        getattr(trainer(), verb)(wrong, DigitsData(participants=2))
    assert not Path("run").exists()


@pytest.mark.parametrize("wrong", [LightningDataModule(), DataLoader([1]), None])
def test_data_of_another_class(wrong: Any) -> None:
    with pytest.raises(InputError, match=r"data is a.* it must derive from aequa_lightning.data.CollaborativeData"):
        trainer().fit(model(), wrong)
    assert not Path("run").exists()
