"""What an audit finds in files that were made by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from aequa_lightning.files import sha256
from aequa_lightning.rewards.audit import Finding, audit_reward, describe_audit, held_in_rounds
from aequa_lightning.rewards.checkpoint import save_reward
from aequa_lightning.slimmable import SlimmableModel

Row = dict[str, Any]


@pytest.fixture
def network() -> SlimmableModel:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    for value in layers.parameters():
        nn.init.normal_(value)
    return SlimmableModel(layers, [1, 0.5], torch.zeros(2, 3))


@pytest.fixture
def row(network: SlimmableModel) -> Row:
    """The row of a reward of half the width, whose files lie in the present folder."""
    save_reward(Path("a.ckpt"), network.extract(0.5), hyper_parameters={}, about={})
    Path("a.pt2").write_bytes(b"a program")
    digests = {"sha256": sha256(Path("a.ckpt")), "program_sha256": sha256(Path("a.pt2"))}
    return {"participant": "a", "width": 0.5, "file": "a.ckpt", "program": "a.pt2", **digests}


def change(row: Row, tensors: dict[str, torch.Tensor | None]) -> Row:
    """Put other tensors into the checkpoint (None: take them out), and say so in the manifest."""
    content = torch.load(row["file"], weights_only=True)
    state = content["state_dict"] | {f"network.{name}": value for name, value in tensors.items()}
    content["state_dict"] = {name: value for name, value in state.items() if value is not None}
    torch.save(content, row["file"])
    return row | {"sha256": sha256(Path(row["file"]))}


def faults(row: Row, network: SlimmableModel) -> str:
    return " ".join(audit_reward(Path(), row, network=network).faults)


def test_a_program_is_looked_at_like_the_checkpoint(network: SlimmableModel, row: Row) -> None:
    assert faults(row, network) == ""
    program = Path("a.pt2")
    program.write_bytes(b"another")
    assert "a.pt2 is not the file of the manifest (SHA-256)" in faults(row, network)
    program.write_bytes(network.full[0].weight[4:].detach().numpy().tobytes())
    assert "a.pt2 holds" in faults(row | {"program_sha256": sha256(program)}, network)
    program.unlink()
    assert "a.pt2 is missing" in faults(row, network)


def test_a_file_that_is_missing_or_cannot_be_read_is_a_fault(network: SlimmableModel, row: Row) -> None:
    Path("a.ckpt").write_bytes(b"torn")
    assert "a.ckpt cannot be read" in faults(row | {"sha256": sha256(Path("a.ckpt"))}, network)
    Path("a.ckpt").unlink()
    found = audit_reward(Path(), row, network=network)
    assert (found.faults, found.parameters) == (("a.ckpt is missing",), 0)


def test_tensors_that_are_too_many_or_too_few_are_named(network: SlimmableModel, row: Row) -> None:
    more = change(row, {"hidden": torch.zeros(7)})
    assert "a.ckpt holds hidden of shape (7,), which is not of its width" in faults(more, network)
    wide = change(row, {"hidden": None, "1.running_mean": torch.zeros(8)})
    assert "holds 1.running_mean of shape (8,), which is not of its width" in faults(wide, network)
    fewer = change(row, {"1.running_mean": None})
    assert "a.ckpt lacks 1.running_mean" in faults(fewer, network)


def test_the_widest_that_was_held_is_told_whatever_came_later() -> None:
    rounds = [{"event": "round", "participants": [{"name": "a", "width": width}]} for width in (0.5, 1.0, 0.25)]
    assert held_in_rounds([{"event": "start"}, *rounds]) == {"a": 1.0}


@pytest.mark.parametrize("widths", [(0.5, 1.0), (1.0, 0.5)])
def test_together_nested_files_rebuild_the_widest_of_them(network: SlimmableModel, widths: tuple[float, ...]) -> None:
    count = {width: network.plan(width).numel() for width in widths}
    findings = [Finding(f"p{width}", width, None, count[width], ()) for width in widths]
    content = describe_audit(findings, network, {})
    assert content["coalition"] == {"rebuilds": count[1.0], "widest_reward": count[1.0], "full": count[1.0]}
    assert content["sound"]
    assert not describe_audit([*findings, Finding("x", 0.5, None, 0, ("odd",))], network, {})["sound"]


def test_numbers_that_training_has_left_alone_prove_nothing(network: SlimmableModel) -> None:
    nn.init.ones_(network.full[1].weight)
    save_reward(Path("a.ckpt"), network.extract(0.5, fresh_statistics=True), hyper_parameters={}, about={})
    half = {"participant": "a", "width": 0.5, "file": "a.ckpt", "sha256": sha256(Path("a.ckpt"))}
    assert faults(half, network) == ""
