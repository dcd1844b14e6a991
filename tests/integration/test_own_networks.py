"""Networks of one's own: what is not right is one sentence before the training, and what can be paid is paid."""

from pathlib import Path

import pytest

from tests.helpers.command import aequa, events, small

NETWORKS = '''
import torch
from torch import nn

class Packed(nn.Module):
    """A packed sequence, which torch.export cannot follow."""

    def __init__(self, classes):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(8, 12), nn.LSTM(12, 10, batch_first=True), nn.Linear(10, classes)

    def forward(self, x):
        lengths = torch.full((len(x),), 8)
        rows = nn.utils.rnn.pack_padded_sequence(self.first(x[:, 0]), lengths, batch_first=True, enforce_sorted=False)
        return self.last(self.middle(rows)[1][0][-1])

class Unused(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.never, self.last = nn.Linear(64, 16), nn.Linear(64, 16), nn.Linear(16, classes)

    def forward(self, x):
        return self.last(self.first(x.flatten(1)).relu())

def packed(num_classes, input_shape): return Packed(num_classes)
def unused(num_classes, input_shape): return Unused(num_classes)
def plain(num_classes, input_shape, name="x"):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, num_classes))
def seven(num_classes, input_shape): return plain(7, input_shape)
def wrong_inputs(num_classes, input_shape): return nn.Linear(3, num_classes)
def pair(num_classes, input_shape): return nn.LSTM(8, num_classes)
def broken(num_classes, input_shape): raise RuntimeError("no such file: weights.bin")
def nothing(num_classes, input_shape): return None
number = 3
'''


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_networks.py").write_text(NETWORKS)
    Path("own_broken.py").write_text("this is no Python\n")
    monkeypatch.syspath_prepend(".")


def _words(name: str, *more: str, **sizes: int) -> list[str]:
    return [*small(Path("run"), **sizes), f"--model.backbone={name}", "--model.backbone_options=null", *more]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own_networks:broken", ("RuntimeError: no such file: weights.bin",)),
        ("own_networks:nothing", ("returns NoneType", "torch.nn.Module")),
        ("own_networks:seven", ("(2, 7)", "(2, 10)")),
        ("own_networks:wrong_inputs", ("cannot take inputs of shape (1, 8, 8)",)),
        ("own_networks:pair", ("own_networks:pair",)),
        ("own_networks:number", ("is no function",)),
        ("own_networks:", ("cannot be imported",)),
        ("own_networks:absent", ("cannot be imported", "absent")),
        ("own_broken:x", ("cannot be imported", "SyntaxError")),
        ("own_absent:x", ("cannot be imported",)),
        ("builtins:dict", ("returns dict",)),
        (":", ("cannot be imported",)),
        ("..:x", ("cannot be imported",)),
    ],
)
def test_what_is_no_network_is_one_sentence(
    capsys: pytest.CaptureFixture[str], name: str, words: tuple[str, ...]
) -> None:
    assert aequa(*_words(name)) == 2
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == [], message
    assert len(message.splitlines()) <= 5
    assert not Path("run/events.jsonl").exists()


def test_options_may_have_any_name_but_those_of_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert aequa(*_words("own_networks:plain", "--model.backbone_options={num_classes: 3}")) == 2
    assert "num_classes comes from the data" in capsys.readouterr().err
    assert aequa(*_words("own_networks:plain", "--model.backbone_options={name: a}", rounds=1)) == 0


def test_a_network_that_cannot_be_exported_is_paid_without_programs() -> None:
    with pytest.warns(UserWarning, match=r"torch\.export cannot follow.*trainer\.export_programs=false"):
        assert aequa(*_words("own_networks:packed", "--trainer.export_programs=true", rounds=1, participants=2)) == 0
    assert len(list(Path("run/rewards").glob("*.ckpt"))) == 2
    assert not list(Path("run/rewards").glob("*.pt2"))
    assert aequa("audit", "--run_dir", "run") == 0


def test_replicas_train_a_network_with_a_layer_that_it_does_not_use() -> None:
    words = ("--trainer.replicas=2", "--trainer.timeout_minutes=1")
    with pytest.warns(UserWarning, match="stay whole at every width.*is used by no operation"):
        assert aequa(*_words("own_networks:unused", *words, devices=2, rounds=1, participants=2)) == 0
    assert len(events(Path("run"), "round")) == 1
