"""The bytes of reward files: the same for the same content, and none about who wrote them."""

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from aequa_lightning.rewards.files.checkpoint import check_width, export_program, reward_content, serialize

NETWORK = """
import torch
from torch import nn

class Home(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 2)
    def forward(self, images):
        hidden = self.norm(self.conv(images)).relu()  # a line of source that nobody should read
        return self.out(hidden.flatten(1))
"""
WRITE = """
import hashlib, torch
from home_of_jane import Home
from aequa_lightning.rewards.files.checkpoint import export_program, reward_content, serialize
torch.manual_seed(0)
network = Home()
export_program(torch.nn.Linear(3, 3), torch.zeros(1, 3))
network = network.to(memory_format=torch.channels_last)  # as on a GPU
content = reward_content(network.state_dict(), hyper_parameters={"backbone": "".join(["a", "b"])}, about={"a": "ab"})
for written in (serialize(content), export_program(network, torch.zeros(1, 3, 6, 6))):
    print(hashlib.sha256(written).hexdigest())
"""


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    Path("home_of_jane.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    from home_of_jane import Home  # type: ignore[import-not-found]

    torch.manual_seed(0)
    made: nn.Module = Home()
    return made


def parts(content: bytes) -> bytes:
    """Return the content of all entries of an archive, of archives in it too."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [archive.read(name) for name in archive.namelist()]
    return b"".join(parts(entry) if zipfile.is_zipfile(io.BytesIO(entry)) else entry for entry in entries)


def test_a_program_says_nothing_of_the_machine_it_was_made_on(network: nn.Module) -> None:
    written = export_program(network, torch.zeros(1, 3, 6, 6))
    told = parts(written)
    for word in (str(Path.cwd()), str(Path(torch.__file__).parent), "File", "home_of_jane", "Home", "line of source"):
        assert word.encode() not in told, word
    program = torch.export.load(io.BytesIO(written))
    for batch in (1, 5):
        images = torch.randn(batch, 3, 6, 6)
        torch.testing.assert_close(program.module()(images), network.eval()(images))


def test_the_same_content_gives_the_same_bytes_in_every_process(network: nn.Module) -> None:
    content = reward_content(network.state_dict(), hyper_parameters={"backbone": "ab"}, about={"a": "ab"})
    here = [serialize(content), export_program(network, torch.zeros(1, 3, 6, 6))]
    expected = [hashlib.sha256(written).hexdigest() for written in here]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", WRITE]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.split() == expected


def test_writing_leaves_the_network_as_it_was(network: nn.Module) -> None:
    network.train()
    network.to(memory_format=torch.channels_last)
    before = network.conv.weight.stride()
    export_program(network, torch.zeros(1, 3, 6, 6))
    assert network.training
    assert network.conv.weight.stride() == before


@pytest.mark.parametrize("width", [0, 1.5, "wide", None, True, float("nan"), [0.5]])
def test_a_width_is_a_share(width: object) -> None:
    for given in ((width, None), (0.5, {"conv": width})):
        with pytest.raises(TypeError, match="not a number in"):
            check_width(*given)
    with pytest.raises(TypeError, match="no shares by name"):
        check_width(0.5, json.loads("[1]"))
