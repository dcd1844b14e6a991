"""What the trainer refuses before anything is built, and how it reads what is given."""

from dataclasses import fields
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.corrections import FedProx
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.participation import Participation
from aequa_lightning.engine.server.aggregators import FedAvg
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import SharedModel
from aequa_lightning.trainer.trainer import CollaborativeTrainer

NUMBERS = (
    *("num_nodes", "replicas", "max_rounds", "local_epochs", "local_steps", "participants_per_round"),
    *("checkpoint_every", "keep_checkpoints", "threads", "stacking"),
)


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_below_one_is_refused_by_name(key: str) -> None:
    with pytest.raises(InputError, match=rf"trainer\.{key}=0 must be at least 1"):
        CollaborativeTrainer(accelerator="cpu", devices=1, **{key: 0})


def test_off_is_false_in_yaml() -> None:
    assert CollaborativeTrainer(accelerator="cpu", devices=1, stacking=False).config.stacking == "off"


def test_the_longest_wait_is_given_in_minutes() -> None:
    assert CollaborativeTrainer(accelerator="cpu", devices=1, timeout_minutes=1.5).timeout == timedelta(seconds=90)


def test_the_plan_is_what_was_asked_for() -> None:
    same: dict[str, Any] = {
        "max_rounds": 7,
        "participants_per_round": 3,
        "aggregator": FedAvg("uniform"),
        "checkpoint_every": 2,
        "seed": 5,
        "participation": Participation("samples"),
        "correction": FedProx(0.25),
        "participant_state": "keep",
        "keep_checkpoints": 4,
        "compile": True,
        "stacking": 3,
        "standalone": False,
        "privacy": None,
    }
    # Each option of RunConfig that the trainer takes by the same name is tried here, so that none is forgotten.
    names = {field.name for field in fields(RunConfig)} & set(signature(CollaborativeTrainer.__init__).parameters)
    assert names - {*same} == {"adversaries", "mechanism", "run_dir", "standalone_dir"}
    mechanism = SharedModel(contribution="data_share")
    trainer = CollaborativeTrainer(
        accelerator="cpu",
        devices=1,
        local_steps=6,
        mechanism=mechanism,
        run_dir="mine",
        standalone_dir="alone",
        **same,
    )
    assert trainer.config == RunConfig(
        work=LocalWork(1, 6), mechanism=mechanism, run_dir=Path("mine"), standalone_dir=Path("alone"), **same
    )
