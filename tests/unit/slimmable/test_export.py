import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.files.checkpoint import export_program, save_reward
from aequa_lightning.rewards.files.leaks import count_words, withheld_words
from aequa_lightning.slimmable import SlimmableModel
from aequa_lightning.slimmable.export import save_onnx, save_safetensors

IMAGE = (3, 6, 6)


def make() -> SlimmableModel:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10), nn.ReLU(),
        nn.Linear(10, 4),
    )  # fmt: skip
    for parameter in net[1].parameters():
        nn.init.uniform_(parameter)  # new ones and zeros are in every part
    return SlimmableModel(net, [1, 0.5], torch.zeros(1, *IMAGE)).eval()


def checkpoint(path: Path, network: nn.Module) -> None:
    save_reward(path, network, hyper_parameters={}, about={})


def program(path: Path, network: nn.Module) -> None:
    path.write_bytes(export_program(network, torch.zeros(1, *IMAGE)))


def onnx(path: Path, network: nn.Module) -> None:
    pytest.importorskip("onnxscript", reason="the extra 'onnx'")
    save_onnx(path, network, torch.zeros(1, *IMAGE))


@pytest.mark.parametrize("write", [save_safetensors, checkpoint, program, pytest.param(onnx, marks=pytest.mark.slow)])
def test_export_file_holds_its_slice_and_nothing_of_the_rest(
    write: Callable[[Path, nn.Module], None], tmp_path: Path
) -> None:
    model = make()
    plan, full = model.plan(0.5), dict(model.full.named_parameters())
    words = withheld_words(plan, full)
    assert len(words) > 400
    write(tmp_path / "narrow", model.extract(0.5))
    assert count_words((tmp_path / "narrow").read_bytes(), words) == 0
    # The search finds them where they are.
    write(tmp_path / "full", model.full)
    assert count_words((tmp_path / "full").read_bytes(), words) > 0.99 * len(words)


def test_export_safetensors_bring_the_network_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    net = net.to(memory_format=torch.channels_last)
    model, x = SlimmableModel(net, [1, 0.5], torch.zeros(1, *IMAGE)), torch.randn(5, *IMAGE)
    model.recalibrate([x])
    model.eval()
    save_safetensors(tmp_path / "half.safetensors", model.extract(0.5), about={"width": "0.5"})
    other = model.extract(0.5, fresh_statistics=True)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(load_file(tmp_path / "half.safetensors"))
    torch.testing.assert_close(other(x), model(x, width=0.5))
    with safe_open(tmp_path / "half.safetensors", "pt") as file:
        assert file.metadata() == {"width": "0.5"}


def test_export_tied_tensors_are_written_under_each_name(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    save_safetensors(tmp_path / "tied", net)
    tensors = load_file(tmp_path / "tied")
    assert torch.equal(tensors["0.weight"], tensors["1.weight"])


@pytest.mark.slow
def test_export_onnx_computes_the_same_for_any_batch(tmp_path: Path) -> None:
    reference = pytest.importorskip("onnx.reference", reason="the extra 'onnx'")
    pytest.importorskip("onnxscript", reason="the extra 'onnx'")
    network, x = make().extract(0.5), torch.randn(5, *IMAGE)
    network.train()
    save_onnx(tmp_path / "half.onnx", network, x[:1])
    assert network.training
    assert b"stack_trace" not in (tmp_path / "half.onnx").read_bytes()
    evaluator = reference.ReferenceEvaluator(str(tmp_path / "half.onnx"))
    (output,) = evaluator.run(None, {evaluator.input_names[0]: x.numpy()})
    torch.testing.assert_close(torch.tensor(output), network.eval()(x).detach())


def test_export_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install onnx onnxscript"):
        save_onnx(tmp_path / "none.onnx", make().extract(0.5), torch.zeros(1, *IMAGE))
    assert not (tmp_path / "none.onnx").exists()


def test_export_file_carries_nothing_from_behind_its_tensors() -> None:
    class Narrow(nn.Module):
        """Views of a wide network, as a careless extraction would leave them."""

        def __init__(self, wide: nn.Linear) -> None:
            super().__init__()
            self.register_buffer("weight", wide.weight.detach()[:2])

    wide = nn.Linear(64, 64)
    checkpoint(Path("a.ckpt"), Narrow(wide))
    assert wide.weight[2, :2].detach().numpy().tobytes() not in Path("a.ckpt").read_bytes()
