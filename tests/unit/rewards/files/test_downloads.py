"""A download that holds anything but its width is found."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from aequa_lightning.rewards.files.downloads import audit_downloads, compare_download, digests, save_download
from aequa_lightning.slimmable import SlimmableModel


@pytest.fixture
def network() -> SlimmableModel:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    return SlimmableModel(layers, [1, 0.5], torch.zeros(1, 3))


def test_every_tampering_with_a_download_is_found(network: SlimmableModel) -> None:
    plan, full = network.plan(0.5), dict(network.full.named_parameters())
    slices, types = plan.extract(full), dict.fromkeys(full, torch.float32)
    sound = save(slices)

    def found(content: bytes) -> str:
        return " ".join(compare_download(content, plan, full, types=types))

    assert found(sound) == ""
    assert "lacks 2.weight" in found(save({name: part for name, part in slices.items() if name != "2.weight"}))
    assert "holds hidden" in found(save(slices | {"hidden": full["2.weight"][4:].detach().clone()}))
    assert "not of its width" in found(save(network.plan(0.625).extract(full)))
    assert "in torch.float64, not torch.float32" in found(save({name: part.double() for name, part in slices.items()}))
    assert "another 2.weight" in found(save(slices | {"2.weight": full["2.weight"][4:, 4:].detach().clone()}))
    assert "more than its tensors" in found(save(slices, metadata={"hidden": "1.5"}))
    assert "cannot be read" in found(sound + full["2.weight"].detach().numpy().tobytes())
    # Padding of the header: eight more bytes than the tensors need.
    length = int.from_bytes(sound[:8], "little")
    padded = (length + 8).to_bytes(8, "little") + sound[8 : 8 + length] + b" " * 8 + sound[8 + length :]
    assert load(padded).keys() == slices.keys()
    assert "more than its tensors" in found(padded)


def test_the_record_says_what_must_be_there(network: SlimmableModel) -> None:
    full = dict(network.full.named_parameters())
    events = [
        {"round": number, "participants": [{"name": "a", "width": 1.0}, {"name": "b", "width": 0.5}]}
        for number in (1, 2)
    ]
    for event in events:
        for row in event["participants"]:
            save_download(Path("run"), event["round"], row["name"], network.plan(row["width"]).extract(full))
    manifest = digests(Path("run"), rounds=2)
    assert list(manifest) == [f"round-000{number}/{name}.safetensors" for number in (1, 2) for name in "ab"]

    def audit() -> tuple[int, int, str]:
        found = audit_downloads(
            Path("run"), events, manifest, network=network, server=lambda number, _: full if number == 2 else None
        )
        return found.files, found.compared, json.dumps(found.faults)

    assert audit() == (4, 2, "[]")
    with torch.no_grad():
        full["0.bias"] += 1
    save_download(Path("run"), 1, "a", full)
    Path("run/downloads/round-0001/b.safetensors").rename("run/downloads/round-0001/c.safetensors")
    # Of a later round, whose course was left.
    save_download(Path("run"), 3, "a", full)
    _, _, faults = audit()
    assert "round-0001/a.safetensors is not the file of the manifest" in faults
    assert "round-0001/b.safetensors is missing" in faults
    assert "round-0001/c.safetensors belongs to no round" in faults
    assert "round-0003" not in faults
    assert "round-0002/a.safetensors holds another 0.bias" in faults
    assert "round-0001/a.safetensors holds" not in faults
