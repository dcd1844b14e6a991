"""What the commands do with a reward file that somebody else has made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

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
