"""What is refused at the start of a run, and what loggers are told at its end."""

from pathlib import Path
from unittest.mock import patch

import pytest
from lightning.pytorch.loggers import CSVLogger

from aequa_lightning.cli.lightning_cli import AequaCLI
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import Aequa
from tests.helpers.command import TOGETHER, aequa, fit, small

PRIVATE = (
    *TOGETHER,
    "--trainer.aggregator=FedAvg",
    "--trainer.aggregator.weighting=uniform",
    "--trainer.privacy=Privacy",
)


def test_privacy_is_looked_at_before_any_round(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aequa_lightning.trainer.compatibility.check_accountant", lambda: None)
    monkeypatch.setattr("aequa_lightning.engine.server.privacy.spent_epsilon", lambda *_, **__: 1.0)
    assert aequa(*small(Path("run")), *PRIVATE, "--trainer.privacy.delta=0.5") == 2
    assert "trainer.privacy.delta=0.5 must be below" in capsys.readouterr().err
    assert not Path("run/events.jsonl").exists()
    run_dir = fit(Path("run"), *PRIVATE, "--trainer.privacy.delta=0.01", rounds=1)
    record = (run_dir / "events.jsonl").read_bytes()
    less = ("--trainer.privacy.delta=0.01", "--trainer.privacy.noise_multiplier=0.5", "--ckpt_path=last")
    assert aequa(*small(run_dir), *PRIVATE, *less) == 2
    assert "what both spend together cannot be told" in capsys.readouterr().err
    assert (run_dir / "events.jsonl").read_bytes() == record


def test_a_logger_is_told_how_the_run_ended() -> None:
    logger = ("--trainer.logger=CSVLogger", "--trainer.logger.save_dir=csv")
    with patch.object(CSVLogger, "finalize") as told:
        fit(Path("run"), *TOGETHER, *logger, rounds=1)
        told.assert_called_once_with("success")
        told.reset_mock()
        with patch("aequa_lightning.callbacks.Rewards.on_fit_end", side_effect=KeyError("broken")):
            assert aequa(*small(Path("broken"), rounds=1), *TOGETHER, *logger) == 1
        told.assert_called_once_with("aborted")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("together") / "run", *TOGETHER, rounds=1)


def test_a_run_that_trained_nobody_alone_cannot_be_paid_by_gains(run_dir: Path) -> None:
    rewards = {path: path.read_bytes() for path in (run_dir / "rewards").iterdir()}
    cli = AequaCLI(["fit", f"--config={run_dir / 'config.yaml'}"], execute=False)
    with pytest.raises(InputError, match=r"trainer\.standalone=false trains nobody alone"):
        cli.trainer.allocate(cli.model, cli.datamodule, Aequa())
    assert {path: path.read_bytes() for path in rewards} == rewards


def test_another_mechanism_takes_no_options_of_aequa(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert aequa("allocate", "--run_dir", run_dir, "--slope", "1") == 2
    assert "--slope: this run was paid by SharedModel" in capsys.readouterr().err
    assert aequa("allocate", "--run_dir", run_dir) == 0


def test_intervals_are_drawn_with_the_seed_of_the_run() -> None:
    with patch.object(Aequa, "resample", return_value=None) as resample:
        fit(Path("run"), "--seed_everything=3", "--model.backbone=mlp", "--model.backbone_options=null", rounds=1)
    assert resample.call_args.kwargs["seed"] == 3
