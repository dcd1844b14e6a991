"""Names of earlier versions are refused with the new name, wherever they stand; none of them is taken."""

import importlib
from pathlib import Path

import pytest

from aequa_lightning.callbacks.assessment.measures import Assessment
from aequa_lightning.cli.renamed import MODULES, OPTIONS
from aequa_lightning.engine.participation import Participation
from aequa_lightning.mechanisms import Aequa, Composed
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.trainer.trainer import CollaborativeTrainer
from tests.helpers.command import DIGITS, aequa

OWNERS = {
    "model": [SlimmableClassifier],
    "trainer": [CollaborativeTrainer],
    "trainer.assessment": [Assessment],
    "trainer.participation": [Participation],
    "trainer.mechanism": [Aequa, Composed],
}


def _refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert aequa("fit", "--config", DIGITS, "--trainer.run_dir=run", *words) == 2
    assert not Path("run").exists()
    return capsys.readouterr().err


def test_each_new_name_is_there_and_no_old_one_is() -> None:
    for key, new in OPTIONS.items():
        block, _, old = key.rpartition(".")
        taken = {name for owner in OWNERS[block] for name in _arguments(owner)}
        assert new in taken, key
        assert old not in taken, key
    for old, new in MODULES.items():
        importlib.import_module(f"aequa_lightning.{new}")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"aequa_lightning.{old}")


def _arguments(owner: type) -> set[str]:
    from jsonargparse._parameter_resolvers import get_signature_parameters

    return {parameter.name for parameter in get_signature_parameters(owner)}


@pytest.mark.parametrize("key", ["trainer.programs", "trainer.assessment.keep_out", "trainer.mechanism.resamples"])
def test_an_old_option_on_the_command_line_names_the_new_one(capsys: pytest.CaptureFixture[str], key: str) -> None:
    block = key.rpartition(".")[0]
    said = f"aequa: error: {key} is now {block}.{OPTIONS[key]}; rename it.\n"
    assert _refused(capsys, f"--{key}=1") == said


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("trainer: {programs: false}", "trainer.programs"),
        ("trainer: {participation: {class_path: Participation, init_args: {choice: samples}}}", "participation.choice"),
        ("model: {init_args: {widest_share: 0.3}}", "model.widest_share"),
        ("trainer: {mechanism: {class_path: Composed, init_args: {means: Slimming}}}", "trainer.mechanism.means"),
    ],
)
def test_an_old_option_in_a_file_or_a_block_names_the_new_one(
    capsys: pytest.CaptureFixture[str], text: str, key: str
) -> None:
    Path("old.yaml").write_text(text)
    new = next(new for old, new in OPTIONS.items() if old.endswith(key))
    message = _refused(capsys, "--config", "old.yaml")
    assert f"{key} is now" in message
    assert f".{new}; rename it." in message
    block, _, rest = text.partition(": ")
    assert _refused(capsys, f"--{block}={rest}") == message


@pytest.mark.parametrize(
    ("option", "old", "new"),
    [
        ("trainer.aggregator", "collaboration.aggregators.FedAdam", "engine.server.aggregators"),
        ("trainer.assessment", "callbacks.measures.Assessment", "callbacks.assessment.measures"),
        ("model", "training.SlimmableClassifier", "modules.classifier"),
        ("trainer.correction", "collaboration.Elsewhere", "engine"),
    ],
)
def test_an_old_class_path_names_the_new_module(
    capsys: pytest.CaptureFixture[str], option: str, old: str, new: str
) -> None:
    message = _refused(capsys, f"--{option}=aequa_lightning.{old}")
    assert f"aequa_lightning.{old.rpartition('.')[0]} is now aequa_lightning.{new}; change the class path." in message


def test_a_class_of_one_s_own_may_use_an_old_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("old_name.py").write_text(
        "from dataclasses import dataclass\n"
        "from aequa_lightning.mechanisms import Aequa\n\n"
        "@dataclass(frozen=True)\n"
        "class Mine(Aequa):\n"
        "    means: int = 1\n"
    )
    monkeypatch.syspath_prepend(".")
    assert "at least 1" in _refused(
        capsys, "--trainer.mechanism=old_name.Mine", "--trainer.mechanism.means=3", "--trainer.max_rounds=0"
    )
