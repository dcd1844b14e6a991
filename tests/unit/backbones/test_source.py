"""A network given from Python: a function, a class, or the network itself."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from aequa_lightning.backbones import NetworkSource
from aequa_lightning.backbones.cnn import mlp
from aequa_lightning.errors import InputError
from aequa_lightning.modules import RewardClassifier
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.rewards.files.checkpoint import save_reward


def build(num_classes: int, input_shape: tuple[int, ...], *, name: str = "a") -> nn.Module:
    """A network of one's own; its option has the name that timm's functions take."""
    units = {"a": 8, "b": 4}[name]
    return nn.Sequential(nn.Linear(*input_shape, units), nn.ReLU(), nn.Linear(units, num_classes))


class Net(nn.Sequential):
    def __init__(self, num_classes: int, input_shape: tuple[int, ...]) -> None:
        super().__init__(nn.Linear(*input_shape, 8), nn.ReLU(), nn.Linear(8, num_classes))


def fails(num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    raise RuntimeError("my own fault")


def classifier(backbone: Any, **options: Any) -> SlimmableClassifier:
    return SlimmableClassifier(3, (4,), backbone=backbone, widths=(1.0, 0.5), **options)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module under the name that its functions have, as a module of a user."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this())


def _this() -> Any:
    module = type(sys)(__name__)
    vars(module).update(build=build, Net=Net, fails=fails)
    return module


def test_source_name_is_an_import_path_where_there_is_one() -> None:
    assert NetworkSource("cnn3").name == "cnn3"
    assert NetworkSource(mlp).name == "mlp"
    assert NetworkSource(build).name == f"{__name__}:build"
    assert NetworkSource(Net).name == f"{__name__}:Net"
    nameless = [lambda **options: build(**options), Net(3, (4,))]
    assert [NetworkSource(given).name for given in nameless] == ["<lambda>", "<Net>"]
    assert [NetworkSource(given).is_importable for given in [build, *nameless]] == [True, False, False]


@pytest.mark.parametrize("backbone", [build, Net, Net(3, (4,)), lambda **options: build(**options)])
def test_source_of_any_kind_trains_and_its_reward_loads(backbone: Any) -> None:
    model = classifier(backbone)
    inputs = torch.randn(5, 4)
    network = model.network.extract(0.5)
    hyper_parameters = model.reward_hparams(0.5, None)
    assert hyper_parameters["backbone"] == model.hparams["backbone"] == NetworkSource(backbone).name
    save_reward(Path("a.ckpt"), network, hyper_parameters=hyper_parameters, about={})
    reward = RewardClassifier.load_from_checkpoint("a.ckpt", backbone=backbone).eval()
    assert torch.equal(reward(inputs), network.eval()(inputs))
    with pytest.raises(InputError, match=r"was given from Python|give backbone="):
        RewardClassifier.load_from_checkpoint("a.ckpt")


def test_source_network_is_copied() -> None:
    network = Net(3, (4,))
    model = classifier(network)
    assert torch.equal(model.network.full[0].weight, network[0].weight)
    with torch.no_grad():
        model.network.full[0].weight.zero_()
    assert network[0].weight.abs().sum() > 0
    assert not [name for name, _ in model.named_modules() if name.startswith("source")]


def test_source_takes_options_of_any_name() -> None:
    assert classifier(build, backbone_options={"name": "b"}).network.full[0].out_features == 4


def test_source_recorded_in_a_subclass_is_a_name() -> None:
    class Mine(SlimmableClassifier):
        def __init__(self, backbone: Any) -> None:
            super().__init__(3, (4,), backbone=backbone, widths=(1.0, 0.5))

    assert Mine(build).hparams["backbone"] == f"{__name__}:build"


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        (fails, {}, r":fails' cannot be built with num_classes=3, .*RuntimeError: my own fault"),
        (lambda **options: 3, {}, r"model.backbone='<lambda>' returns int; return a torch.nn.Module"),
        (nn.Module, {}, r":Module' cannot be built with .*unexpected keyword argument 'num_classes'"),
        (nn.Module(), {}, r"model.backbone='<Module>' cannot take inputs of shape \(4,\)"),
        (Net(7, (4,)), {}, r"model.backbone='<Net>' gives \(2, 7\) for 2 inputs, expected are \(2, 3\)"),
        (Net(3, (4,)), {"name": "a"}, r"model.backbone_options: name is for a function"),
        (3, {}, r"model.backbone=3 is no function; give a name"),
        ("<build>", {}, r"was given from Python, and files hold its name only; give it again: backbone=build"),
        ("nowhere:net", {}, r"No module named 'nowhere'; if it is in this folder, put PYTHONPATH=. before"),
    ],
)
def test_source_that_builds_no_network(backbone: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        classifier(backbone, backbone_options=options)
