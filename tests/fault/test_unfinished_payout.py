"""A payout that was killed is told as such and written again: no manifest stands beside files it does not describe."""

import functools
import shutil
import signal
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from aequa_lightning.callbacks.payout import reward_files
from aequa_lightning.report import read_run
from tests.helpers.command import aequa, fit, small
from tests.helpers.faults import Fault, die, run_command, run_small, run_with

pytestmark = [pytest.mark.fault, pytest.mark.distributed]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("finished") / "run")


@pytest.mark.parametrize(
    ("file", "again"), [("participant-01.ckpt", "allocate"), ("allocation.json", "fit"), ("manifest.json", "allocate")]
)
def test_a_killed_payout_is_unfinished_until_it_is_written_again(
    tmp_path: Path, finished: Path, file: str, again: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(finished, run_dir)
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace(str(finished), str(run_dir)))
    allocate = ("allocate", "--run_dir", run_dir)
    status, errors = run_command(Fault(die, file=file), functools.partial(aequa, *allocate, "--slope", "0"))
    assert status == -signal.SIGKILL, errors

    capsys.readouterr()
    reward = ("test", "--config", config, "--ckpt_path", run_dir / "rewards" / "participant-00.ckpt")
    for words in (("audit", "--run_dir", run_dir), reward):
        assert aequa(*words) == 2
        told = capsys.readouterr().err
        assert f"{run_dir}/rewards holds no manifest.json, so its payout is unfinished; `aequa allocate` or" in told
    assert read_run(run_dir).payout_unfinished

    assert aequa(*(allocate if again == "allocate" else (*small(run_dir), "--ckpt_path", "last"))) == 0
    for path in finished.rglob("rewards/*"):
        assert (run_dir / "rewards" / path.name).read_bytes() == path.read_bytes()
    assert (run_dir / "allocation.json").read_bytes() == (finished / "allocation.json").read_bytes()
    for words in (("audit", "--run_dir", run_dir), reward):
        assert aequa(*words) == 0
    assert not read_run(run_dir).payout_unfinished


def test_no_process_rewrites_a_file_that_a_manifest_still_describes(tmp_path: Path) -> None:
    run = functools.partial(run_small, tmp_path / "run")
    assert run_with(None, run)[0] == 0
    remove, save = reward_files.remove_manifest, reward_files.save_reward

    def slowly(folder: Path) -> None:
        time.sleep(0.5)
        remove(folder)

    def checked(path: Path, *arguments: Any, **options: Any) -> None:
        assert not path.with_name("manifest.json").exists()
        save(path, *arguments, **options)

    with patch.object(reward_files, "remove_manifest", slowly), patch.object(reward_files, "save_reward", checked):
        status, errors = run_with(None, run)
    assert status == 0, errors
