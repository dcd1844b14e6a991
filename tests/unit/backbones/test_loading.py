"""A checkpoint is data: it cannot say which code is run."""

import re
from pathlib import Path

import pytest
import torch

from aequa_lightning.errors import InputError
from aequa_lightning.modules import RewardClassifier
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.rewards.files.checkpoint import save_reward

OWN = """
from pathlib import Path
from torch import nn
def net(num_classes, input_shape, **options):
    Path("was-run").touch()
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, num_classes))
"""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> SlimmableClassifier:
    """A model of a backbone of one's own, whose code leaves a mark when it is run."""
    Path("own_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    built = SlimmableClassifier(3, (4,), backbone="own_network:net", widths=(1.0, 0.5))
    Path("was-run").unlink()
    return built


@pytest.mark.parametrize("keys", [("hyper_parameters",), ("hparams",), ("hparams", "module_arguments")])
def test_loading_a_reward_runs_no_code_that_the_file_names(model: SlimmableClassifier, keys: tuple[str, ...]) -> None:
    network = model.network.extract(0.5)
    save_reward(Path("a.ckpt"), network, hyper_parameters=model.reward_hparams(0.5, None), about={})
    content = torch.load("a.ckpt", weights_only=True)
    named = content.pop("hyper_parameters")
    # Lightning still reads the names of old versions.
    torch.save(content | dict.fromkeys(keys, named), "a.ckpt")
    with pytest.raises(InputError, match=re.escape("give backbone='own_network:net' yourself")):
        RewardClassifier.load_from_checkpoint("a.ckpt")
    with pytest.raises(InputError, match="own_network:net"):
        RewardClassifier.load_from_checkpoint("a.ckpt", hparams_file=None, backbone_options={})
    assert not Path("was-run").exists()


def test_loading_caller_may_name_it(model: SlimmableClassifier) -> None:
    network = model.network.extract(0.5)
    save_reward(Path("a.ckpt"), network, hyper_parameters=model.reward_hparams(0.5, None), about={})
    reward = RewardClassifier.load_from_checkpoint("a.ckpt", backbone="own_network:net").eval()
    inputs = torch.ones(2, 4)
    assert torch.equal(reward(inputs), network.eval()(inputs))
    assert Path("was-run").exists()


def test_loading_backbones_of_this_project_need_no_name(tmp_path: Path) -> None:
    model = SlimmableClassifier(3, (4,), backbone="mlp", backbone_options={"hidden": [8]}, widths=(1.0, 0.5))
    save_reward(
        tmp_path / "a.ckpt",
        model.network.extract(0.5),
        hyper_parameters=model.reward_hparams(0.5, None),
        about={},
    )
    RewardClassifier.load_from_checkpoint(tmp_path / "a.ckpt")
