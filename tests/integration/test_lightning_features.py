"""What users of LightningCLI and Trainer expect, one test each; docs/lightning.md lists them."""

import csv
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from aequa_lightning.cli.lightning_cli import AequaCLI
from aequa_lightning.data import DigitsData
from tests.helpers.command import DIGITS, REPOSITORY, TOGETHER, aequa, events, fit, parameters
from tests.helpers.wandb_file import read_runs

CALLBACK = """
from pathlib import Path

from aequa_lightning.engine.callback import CollaborationCallback

class Diary(CollaborationCallback):
    def __init__(self, title: str):
        self.title = title

    def on_round_end(self, run, result):
        if run.is_global_zero:
            with (run.config.run_dir / "diary.txt").open("a") as file:
                file.write(f"{self.title} {result.round}\\n")
"""


def build(*words: object) -> AequaCLI:
    """Parse, and build model, data and trainer, without a run."""
    with patch.object(sys, "argv", ["aequa"]):
        return AequaCLI(["fit", "--config", str(DIGITS), *map(str, words)], execute=False)


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """Return the configuration that ``--print_config`` shows."""
    with pytest.raises(SystemExit) as exit_:
        aequa("fit", "--config", DIGITS, *words, "--print_config")
    assert exit_.value.code == 0
    content: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return content


# --- the configuration -----------------------------------------------------------------------------------------------


def test_print_config_is_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    first = printed(capsys, "--trainer.max_rounds=3")
    assert first["trainer"]["max_rounds"] == 3
    Path("printed.yaml").write_text(yaml.safe_dump(first))
    assert printed(capsys, "--config", "printed.yaml") == first


def test_the_command_line_overrides_the_file() -> None:
    words = ("--trainer.max_rounds=3", "--optimizer=SGD", "--optimizer.lr=0.5", "--data.partition=Homogeneous")
    words += ("--trainer.compile=true",)
    cli = build(*words, "--lr_scheduler=StepLR", "--lr_scheduler.step_size=4", "--model.widths=[1.0,0.5]")
    assert (cli.trainer.config.max_rounds, cli.trainer.config.compile) == (3, True)
    assert cli.model.network.widths == (1.0, 0.5)
    (optimizer,), (schedule,) = cli.model.configure_optimizers()
    assert (type(optimizer), optimizer.defaults["lr"]) == (torch.optim.SGD, 0.5)
    scheduler = schedule["scheduler"] if isinstance(schedule, dict) else schedule
    assert scheduler.step_size == 4


def test_an_environment_variable_fills_what_the_file_leaves_open(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AEQUA_FIT__TRAINER__CHECKPOINT_EVERY", "7")
    monkeypatch.setenv("AEQUA_FIT__TRAINER__MAX_ROUNDS", "7")
    trainer = printed(capsys)["trainer"]
    assert (trainer["checkpoint_every"], trainer["max_rounds"]) == (7, 20)
    assert printed(capsys, "--trainer.checkpoint_every=2")["trainer"]["checkpoint_every"] == 2


def test_an_environment_variable_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AEQUA_FIT__CONFIG", str(DIGITS))
    with pytest.raises(SystemExit):
        aequa("fit", "--print_config")
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["max_rounds"] == 20


def test_a_second_file_adds_to_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("trainer:\n  max_rounds: 4\ndata:\n  init_args:\n    participants: 5\n")
    config = printed(capsys, "--config", "mine.yaml")
    assert (config["trainer"]["max_rounds"], config["trainer"]["local_epochs"]) == (4, 2)
    assert (config["data"]["init_args"]["participants"], config["data"]["init_args"]["batch_size"]) == (5, 32)


def test_a_part_of_the_configuration_is_a_file_of_its_own() -> None:
    cli = build("--data.partition", REPOSITORY / "configs" / "partitions" / "imbalance-0.15-6.yaml")
    assert type(cli.datamodule.partition).__name__ == "QuantityImbalance"


def test_classes_of_one_s_own_are_named_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.py").write_text(
        "from torch import nn\n"
        "from aequa_lightning.data import DigitsData\n"
        "class MyData(DigitsData):\n"
        "    pass\n"
        "def network(num_classes: int, input_shape: tuple[int, ...], hidden: int = 8) -> nn.Module:\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))\n"
    )
    monkeypatch.syspath_prepend(".")
    own = {"class_path": "mine.MyData", "init_args": {"participants": 3}}
    cli = build("--data", own, "--model.backbone=mine:network", "--model.backbone_options={hidden: 16}")
    assert isinstance(cli.datamodule, DigitsData)
    assert type(cli.datamodule).__name__ == "MyData"
    assert cli.model(torch.zeros(2, 1, 8, 8), width=0.5).shape == (2, 10)


def test_callbacks_are_appended(capsys: pytest.CaptureFixture[str]) -> None:
    name = "aequa_lightning.callbacks.wandb.WandbDashboard"
    more = (f"--trainer.callbacks+={name}", "--trainer.callbacks.project=second")
    callbacks = printed(capsys, "--config", REPOSITORY / "configs" / "wandb.yaml", *more)["trainer"]["callbacks"]
    assert [entry["init_args"]["project"] for entry in callbacks] == ["aequa", "second"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fit", "--help"], "--trainer.max_rounds"),
        (["fit", "--data.help=DigitsData"], "--data.train_samples"),
        (["fit", "--model.help"], "--model.widths"),
        (["fit", "--optimizer.help=SGD"], "--optimizer.momentum"),
        (["test", "--help"], "--ckpt_path"),
        (["--help"], "allocate"),
    ],
)
def test_help(capsys: pytest.CaptureFixture[str], words: list[str], expected: str) -> None:
    # The verbs' own help leaves through SystemExit, as argparse does.
    with suppress(SystemExit):
        aequa(*words)
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    "verb", ["fit", "validate", "test", "predict", "allocate", "audit", "federate", "report", "slurm", "sweep"]
)
def test_help_of_every_verb_is_short_cuts_no_sentence_and_shows_an_example(
    capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    with suppress(SystemExit):
        aequa(verb, "--help")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 120
    assert not any("…" in line or len(line) > 80 for line in lines)
    assert not any("<class" in line for line in lines)
    assert any(f"aequa {verb} " in line and line.startswith("example") for line in lines)


@pytest.mark.parametrize("option", ["max_epochs=3", "profiler=simple", "accumulate_grad_batches=2"])
def test_an_option_of_the_trainer_that_the_engine_lacks_is_refused(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert aequa("fit", "--config", DIGITS, f"--trainer.{option}") == 2
    assert option.split("=")[0] in capsys.readouterr().err


def test_the_seed_decides_the_first_weights_and_the_partition() -> None:
    def start(seed: int) -> tuple[torch.Tensor, int]:
        cli = build(f"--seed_everything={seed}")
        return torch.cat([value.flatten() for value in cli.model.parameters()]), cli.trainer.config.seed

    (first, seed), (again, _), (other, another) = start(5), start(5), start(6)
    assert (seed, another) == (5, 6)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_loggers_have_short_names() -> None:
    cli = build("--trainer.logger=CSVLogger", "--trainer.logger.save_dir=csv")
    assert isinstance(cli.trainer.fabric.logger, CSVLogger)


# --- a run -----------------------------------------------------------------------------------------------------------

TINY = [*TOGETHER, "--trainer.local_steps=3", "--model.widths=[1.0,0.5]"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("plain") / "run", *TINY, participants=3)


@pytest.fixture(scope="module")
def decorated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes with three loggers, mixed precision and a callback of one's own."""
    folder = tmp_path_factory.mktemp("decorated")
    (folder / "diary.py").write_text(CALLBACK)
    loggers = [
        {"class_path": f"lightning.pytorch.loggers.{name}", "init_args": {"save_dir": str(folder / name)}}
        for name in ("CSVLogger", "TensorBoardLogger", "WandbLogger")
    ]
    config = {"trainer": {"precision": "bf16-mixed", "logger": loggers}}
    (folder / "more.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("WANDB_MODE", "offline")
        more = ["--config", str(folder / "more.yaml"), "--trainer.callbacks+=diary.Diary"]
        fit(folder / "run", *TINY, *more, "--trainer.callbacks.title=round", participants=3, devices=2)
    return folder


def _losses(run_dir: Path) -> dict[int, float]:
    return {event["round"]: event["train_loss"] for event in events(run_dir, "round")}


def test_csv_logger(decorated: Path) -> None:
    (path,) = (decorated / "CSVLogger").rglob("metrics.csv")
    with path.open() as file:
        logged = {int(row["round"]): float(row["train_loss"]) for row in csv.DictReader(file)}
    assert logged == _losses(decorated / "run")


def test_tensorboard_logger(decorated: Path) -> None:
    (path,) = (decorated / "TensorBoardLogger").rglob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(path))
    accumulator.Reload()
    logged = {event.step: event.value for event in accumulator.Scalars("train_loss")}
    assert logged == pytest.approx(_losses(decorated / "run"))


def test_wandb_logger(decorated: Path) -> None:
    (run,) = read_runs(decorated / "WandbLogger")
    assert run.series("train_loss") == _losses(decorated / "run")


def test_a_callback_of_one_s_own(decorated: Path) -> None:
    assert (decorated / "run" / "diary.txt").read_text() == "round 1\nround 2\n"


def test_bf16_mixed(decorated: Path, plain: Path) -> None:
    exact, mixed = _losses(plain), _losses(decorated / "run")
    assert mixed != exact
    assert mixed == pytest.approx(exact, rel=0.02)
    assert {value.dtype for value in parameters(decorated / "run").values()} == {torch.float32}


def test_resume_from_a_checkpoint_by_path(plain: Path) -> None:
    checkpoint = plain / "checkpoints" / "round-0001.ckpt"
    fit(Path("branch"), *TINY, f"--ckpt_path={checkpoint}", participants=3)
    first, second = parameters(plain), parameters(Path("branch"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [event["round"] for event in events(Path("branch"), "round")] == [2]
