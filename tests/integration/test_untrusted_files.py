"""What the commands do with files that somebody else has made or changed."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aequa_lightning.data import DigitsData
from aequa_lightning.errors import InputError
from tests.helpers.command import aequa, fit

HUB = """
from pathlib import Path
import torch
def net(*args, **options):
    Path("was-run").touch()
    return torch.nn.Linear(64, 10)
"""
Content = dict[str, Any]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("run") / "digits", rounds=1, participants=2)


def _described(**changes: Any) -> Callable[[Content], Content]:
    return lambda content: content | {"hyper_parameters": content["hyper_parameters"] | changes}


def _without(key: str) -> Callable[[Content], Content]:
    return lambda content: {name: value for name, value in content.items() if name != key}


def _tensors(change: Callable[[torch.Tensor], Any]) -> Callable[[Content], Content]:
    return lambda content: content | {"state_dict": {k: change(v) for k, v in content["state_dict"].items()}}


@pytest.mark.parametrize("verb", ["test", "validate", "predict"])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            _described(backbone="torch.hub:load", backbone_options={"repo_or_dir": "theirs", "model": "net"}),
            ("backbone='torch.hub:load'", "configuration of its run"),
        ),
        (_described(backbone="vgg11"), ("backbone='vgg11'", "backbone='cnn3'")),
        (_described(num_classes=3), ("num_classes=3", "num_classes=10")),
        (_described(secret="x"), ("secret='x'",)),
        (_described(width="wide"), ("'wide'", "(0, 1]")),
        (_described(width=float("nan")), ("nan", "(0, 1]")),
        (_described(width=1.0, layers={"nowhere": 0.5}), ("nowhere",)),
        (_described(layers=[0.5]), ("layers",)),
        (_described(input_shape=[3, 8, 8]), ("[3, 8, 8]", "[1, 8, 8]")),
        (_described(input_shape=None), ("None", "[1, 8, 8]")),
        (_without("hyper_parameters"), ("hyper_parameters",)),
        (_without("state_dict"), ("state_dict",)),
        (_tensors(lambda value: value.flatten()[:1]), ("does not fit its own width",)),
        (_tensors(lambda value: "text"), ("more than tensors",)),
        (lambda content: content | {"state_dict": [1]}, ("cannot be read",)),
        (lambda content: content | {"hyper_parameters": "none"}, ("cannot be read",)),
    ],
)
def test_a_file_that_describes_another_network_is_refused(
    run_dir: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    changed: Callable[[Content], Content],
    words: tuple[str, ...],
) -> None:
    Path("theirs").mkdir()
    Path("theirs/hubconf.py").write_text(HUB)
    torch.save(changed(torch.load(run_dir / "rewards" / "participant-00.ckpt", weights_only=True)), "received.ckpt")
    assert aequa(verb, "--config", run_dir / "config.yaml", "--ckpt_path", "received.ckpt") == 2
    errors = capsys.readouterr().err
    assert all(word in errors for word in words), errors
    assert not Path("was-run").exists()


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a signed run and the keys."""
    folder = tmp_path_factory.mktemp("signed")
    private, public = folder / "private.pem", folder / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    fit(folder / "run", f"--trainer.signing_key={private}", rounds=1, participants=2)
    return folder


def _tampered(signed: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return a copy of the run whose configuration names code that leaves a mark, and the public key."""
    shutil.copytree(signed / "run", "run")
    Path("their_code.py").write_text(HUB)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    config = Path("run/config.yaml")
    text = config.read_text()
    assert "backbone: cnn3" in text
    config.write_text(text.replace("backbone: cnn3", "backbone: their_code:net"))
    return Path("run"), signed / "public.pem"


@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize("verb", ["audit", "allocate", "report"])
def test_a_changed_configuration_is_found_before_it_is_built(
    signed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, key: bool
) -> None:
    run, public = _tampered(signed, monkeypatch)
    words = ["--public_key", public] if key and verb != "report" else []
    status = aequa(verb, "--run_dir", run, *words)
    assert status == (0 if verb == "report" else 2)
    told = "config.yaml is not the configuration that was signed" if key else "config.yaml names 'their_code:net'"
    assert verb == "report" or told in capsys.readouterr().err
    assert not Path("was-run").exists()


@pytest.mark.parametrize("verb", ["test", "validate", "predict"])
@pytest.mark.parametrize("by_variable", [False, True])
def test_with_a_key_a_reward_and_its_configuration_are_verified_first(
    signed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, by_variable: bool
) -> None:
    run, public = _tampered(signed, monkeypatch)
    words = ["--public_key", public]
    if by_variable:
        monkeypatch.setenv(f"AEQUA_{verb.upper()}__PUBLIC_KEY", str(public))
        words = []
    reward = run / "rewards" / "participant-00.ckpt"
    assert aequa(verb, "--config", run / "config.yaml", "--ckpt_path", reward, *words) == 2
    assert "config.yaml is not the configuration that was signed" in capsys.readouterr().err
    # Received together in one folder.
    Path("received").mkdir()
    for file in ("config.yaml", "rewards/manifest.json", "rewards/manifest.sig", "rewards/participant-00.ckpt"):
        shutil.copy(run / file, "received")
    received = Path("received/participant-00.ckpt")
    assert aequa(verb, "--config", "received/config.yaml", "--ckpt_path", received, *words) == 2
    assert not Path("was-run").exists()
    # The reader's own configuration is its own affair; so is a folder that has moved.
    shutil.copy(signed / "run" / "config.yaml", "own.yaml")
    shutil.copy(signed / "run" / "config.yaml", "received/config.yaml")
    for config in ("own.yaml", "received/config.yaml"):
        here = ("--trainer.run_dir", "elsewhere")
        assert aequa(verb, "--config", config, "--ckpt_path", received, *words, *here) == 0


def test_a_moved_run_is_audited_under_its_new_name(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(signed / "run", "moved")
    config = Path("moved/config.yaml")
    config.write_text(config.read_text().replace(f"run_dir: {signed / 'run'}", "run_dir: moved"))
    assert "run_dir: moved" in config.read_text()
    assert aequa("audit", "--run_dir", "moved", "--public_key", signed / "public.pem") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("sound: 4 of 4 reward files hold exactly")


def _edit(path: Path, change: Callable[[Content], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _row(**changes: Any) -> Callable[[Path], None]:
    return lambda run: _edit(run / "rewards/manifest.json", lambda content: content["rewards"][0].update(changes))


def _person(**changes: Any) -> Callable[[Path], None]:
    return lambda run: _edit(run / "allocation.json", lambda content: content["participants"][0].update(changes))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_row(width="wide", file=5), "'width' is 'wide'"),
        (_row(width=0.01), "which this network cannot have"),
        (_row(validation_accuracy=0.999), "says validation accuracy 0.999, the reward reaches"),
        (_row(test_accuracy=0.0), "says test accuracy 0, the reward reaches"),
        (_row(participant="somebody"), "does not name each participant"),
        (
            lambda run: _edit(run / "rewards/manifest.json", lambda content: content.update(rewards=[None])),
            "a row without keys",
        ),
        (lambda run: _edit(run / "rewards/manifest.json", lambda c: c["rewards"].reverse()), "once and in order"),
        (lambda run: _edit(run / "rewards/manifest.json", lambda c: c.update(more=[1])), "manifest.json holds 'more'"),
        (_person(accuracy=0.0), "accuracy is 0.0, not"),
        (_person(gain=0.5), "gain is 0.5, not"),
        (_person(contribution=1.0), "contribution is 1.0, not"),
        (_person(width=0.3), "width is 0.3, not"),
        (lambda run: _edit(run / "allocation.json", lambda content: content.update(mcg=0.5)), "mcg is 0.5, not"),
        (lambda run: (run / "rewards" / "full.bin").touch(), "rewards/full.bin is not named"),
    ],
)
def test_the_audit_tells_of_figures_rows_and_files_that_are_wrong(
    run_dir: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], Any], words: str
) -> None:
    shutil.copytree(run_dir, "run")
    spoil(Path("run"))
    with pytest.raises(SystemExit) as exit:
        aequa("audit", "--run_dir", "run")
    assert exit.value.code == 1
    report = json.loads(Path("run/audit.json").read_text())
    told = "; ".join([*report["faults"], *(fault for row in report["rewards"] for fault in row["faults"])])
    assert words in told
    assert capsys.readouterr().out.splitlines()[-1].startswith("unsound: ")


def test_without_the_data_the_audit_says_what_it_has_not_compared(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run_dir, "run")

    def gone(self: DigitsData) -> None:
        raise InputError("digits are gone")

    monkeypatch.setattr(DigitsData, "load", gone)
    assert aequa("audit", "--run_dir", "run") == 0
    told = capsys.readouterr().out
    assert "data not at hand" in told
    assert "digits are gone" in told
    assert json.loads(Path("run/audit.json").read_text())["data"] == "digits are gone"
