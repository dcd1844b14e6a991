"""What an audit finds in files that were made by hand."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import nn

from aequa_lightning.rewards.files.audit import (
    Earned,
    Finding,
    audit_reward,
    describe_audit,
    folder_faults,
    held_in_rounds,
)
from aequa_lightning.rewards.files.checkpoint import export_program, save_reward
from aequa_lightning.run_folder.files import sha256
from aequa_lightning.slimmable import SlimmableModel

Row = dict[str, Any]
EXAMPLE = torch.zeros(1, 3)
HYPER_PARAMETERS = {"backbone": "mlp", "width": 0.5}
ABOUT = {"participant": "a", "mean": (0.5,), "std": (1.0,)}


@pytest.fixture
def network() -> SlimmableModel:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    for value in layers.parameters():
        nn.init.normal_(value)
    model = SlimmableModel(layers, [1, 0.5], EXAMPLE)
    model.recalibrate([torch.randn(50, 3)])
    return model


@pytest.fixture
def row(network: SlimmableModel) -> Row:
    """The row of a reward of half the width, whose files lie in the present folder."""
    save_reward(Path("a.ckpt"), network.extract(0.5), hyper_parameters=HYPER_PARAMETERS, about=ABOUT)
    Path("a.pt2").write_bytes(export_program(network.extract(0.5), EXAMPLE))
    return described({"participant": "a", "width": 0.5, "file": "a.ckpt", "program": "a.pt2"})


def described(row: Row) -> Row:
    """Bring a row in line with its files, as a dishonest payer would."""
    digests = {"sha256": sha256(Path("a.ckpt"))}
    if "program" in row:
        digests["program_sha256"] = sha256(Path("a.pt2"))
    return row | digests | {"bytes": Path("a.ckpt").stat().st_size}


def earned(network: SlimmableModel, *, by_data: bool = True, **versions: str) -> Earned:
    return Earned(
        network.extract(0.5),
        HYPER_PARAMETERS,
        ABOUT,
        EXAMPLE,
        {"torch": torch.__version__, "lightning": lightning.__version__, **versions},
        by_data=by_data,
        plan=network.plan(0.5),
        full=dict(network.full.named_parameters()),
    )


def faults(row: Row, network: SlimmableModel, **options: Any) -> str:
    return "; ".join(audit_reward(Path(), row, earned(network, **options)).faults)


def change(row: Row, changed: Callable[[dict[str, Any]], dict[str, Any]]) -> Row:
    """Put another content into the checkpoint, and say so in the manifest."""
    content = io.BytesIO()
    torch.save(changed(torch.load("a.ckpt", weights_only=True)), content)
    Path("a.ckpt").write_bytes(content.getvalue())
    return described(row)


def with_tensors(**tensors: torch.Tensor | None) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def changed(content: dict[str, Any]) -> dict[str, Any]:
        state = content["state_dict"] | {f"network.{name.replace('__', '.')}": v for name, v in tensors.items()}
        return content | {"state_dict": {name: value for name, value in state.items() if value is not None}}

    return changed


def test_files_that_are_as_they_were_written_are_sound(network: SlimmableModel, row: Row) -> None:
    finding = audit_reward(Path(), row, earned(network))
    assert finding.faults == ()
    assert finding.files == {"a.ckpt": True, "a.pt2": True}
    assert finding.parameters == network.plan(0.5).numel()


@pytest.mark.parametrize("by_data", [True, False])
def test_nothing_can_be_put_beside_what_was_earned(network: SlimmableModel, row: Row, by_data: bool) -> None:
    full = torch.cat([value.detach().reshape(-1) for value in network.full.parameters()])
    spoilers: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
        "half precision": (lambda c: {**c, "about": {**c["about"], "x": full.half()}}, "holds 'about.x'"),
        "negated": (lambda c: {**c, "hyper_parameters": {**c["hyper_parameters"], "x": -full}}, "'hyper_parameters.x'"),
        "as text": (lambda c: {**c, "about": {**c["about"], "participant": str(full.tolist())}}, "about.participant"),
        "as numbers": (lambda c: {**c, "about": {**c["about"], "mean": tuple(full.tolist())}}, "about.mean"),
        "in place of a number": (lambda c: {**c, "epoch": full.bfloat16()}, "another epoch"),
        "in place of zero": (lambda c: {**c, "epoch": False}, "another epoch"),
        "another key": (lambda c: {**c, "optimizer_states": [full]}, "holds 'optimizer_states'"),
        "a number as key": (lambda c: {**c, 7: full}, "holds '7'"),
        "a version": (lambda c: {**c, "pytorch-lightning_version": full.tolist()}, "pytorch-lightning_version"),
        "another width": (lambda c: {**c, "hyper_parameters": {"backbone": "mlp", "width": 1.0}}, "parameters.width"),
        "in another order": (lambda c: dict(reversed(c.items())), "byte for byte"),
        "one key fewer": (lambda c: {key: value for key, value in c.items() if key != "kind"}, "lacks 'kind'"),
        "more tensors": (with_tensors(hidden=torch.zeros(7)), "holds 'state_dict.network.hidden'"),
        "fewer tensors": (with_tensors(**{"0__bias": None}), "lacks 'state_dict.network.0.bias'"),
        "no statistics": (with_tensors(**{"1__running_mean": None}), "statistics 1.running_mean"),
        "wider statistics": (with_tensors(**{"1__running_mean": torch.zeros(8)}), "statistics 1.running_mean"),
        "statistics that are none": (with_tensors(**{"1__running_mean": torch.full((4,), torch.nan)}), "running_mean"),
        "more precision": (
            with_tensors(**{"0__bias": network.extract(0.5)[0].bias.detach().double()}),
            "state_dict.network.0.bias as torch.float64",
        ),
        "a view of more": (with_tensors(**{"0__weight": network.full[0].weight.detach()[:4]}), "more behind"),
        "a sparse tensor": (with_tensors(**{"0__bias": torch.zeros(4).to_sparse()}), "a.ckpt cannot be read"),
    }
    for what, (spoil, words) in spoilers.items():
        original = Path("a.ckpt").read_bytes()
        found = faults(change(row, spoil), network, by_data=by_data)
        if by_data or what != "as numbers":
            assert words in found, (what, found)
        Path("a.ckpt").write_bytes(original)


def test_statistics_are_those_of_the_data_where_these_are_at_hand(network: SlimmableModel, row: Row) -> None:
    del row["program"]
    mean = network.extract(0.5)[1].running_mean
    assert faults(change(row, with_tensors(**{"1__running_mean": mean * 1.0001})), network) == ""
    weights = network.full[0].weight.detach()[4:, 0].clone()
    hidden = change(row, with_tensors(**{"1__running_mean": weights}))
    assert "other statistics 1.running_mean than the validation part gives" in faults(hidden, network)
    assert faults(hidden, network, by_data=False) == ""


def test_bytes_around_the_content_are_found(network: SlimmableModel, row: Row) -> None:
    full = torch.cat([value.detach().reshape(-1) for value in network.full.parameters()]).half().numpy().tobytes()
    for file in ("a.ckpt", "a.pt2"):
        path = Path(file)
        original = path.read_bytes()
        with path.open("ab") as archive:
            archive.write(full)
        assert f"{file} is not, byte for byte" in faults(described(row), network)
        path.write_bytes(original)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("more/full.bin", full)
        assert f"{file} " in faults(described(row), network)
        path.write_bytes(original)


def test_a_program_is_the_one_of_the_earned_network(network: SlimmableModel, row: Row) -> None:
    program = Path("a.pt2")
    original = program.read_bytes()
    for content in (b"", b"another", export_program(network.extract(1.0), EXAMPLE)):
        program.write_bytes(content)
        assert "a.pt2 is not the file of the manifest (SHA-256)" in faults(row, network)
        assert "a.pt2 " in faults(described(row), network)
    assert "a.pt2 holds withheld parameters" in faults(described(row), network)
    packed = Path("packed.pt2")
    with zipfile.ZipFile("a.ckpt") as _, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as again:
        again.writestr("archive/models/model.json", original)
    program.write_bytes(packed.read_bytes())
    assert "a.pt2 is not, byte for byte" in faults(described(row), network)
    program.unlink()
    assert "a.pt2 is missing" in faults(row, network)


def test_a_file_that_is_missing_or_cannot_be_read_is_a_fault(network: SlimmableModel, row: Row) -> None:
    packed = "packed.ckpt"
    with zipfile.ZipFile("a.ckpt") as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as again:
        for name in archive.namelist():
            again.writestr(name, archive.read(name))
    for content in (b"torn", b"", Path(packed).read_bytes()):
        Path("a.ckpt").write_bytes(content)
        assert "a.ckpt cannot be read" in faults(described(row), network)
    torch.save([1, 2], "a.ckpt")
    assert "a.ckpt holds a list, not a checkpoint" in faults(described(row), network)
    Path("a.ckpt").unlink()
    finding = audit_reward(Path(), row, earned(network))
    assert "a.ckpt is missing" in finding.faults
    assert not finding.files["a.ckpt"]


def test_another_version_of_torch_is_told_where_files_differ(network: SlimmableModel, row: Row) -> None:
    assert faults(row, network, torch="2.9.0") == ""
    Path("a.pt2").write_bytes(b"another")
    assert "was written with torch 2.9.0" in faults(described(row), network, torch="2.9.0")


def test_only_what_the_manifest_names_lies_in_the_folder(row: Row) -> None:
    Path("rewards").mkdir()
    for name in ("a.ckpt", "manifest.json", "manifest.sig"):
        Path("rewards", name).touch()
    assert folder_faults(Path("rewards"), [row]) == []
    for name in ("a-more.ckpt", ".hidden", "b.pt2"):
        Path("rewards", name).touch()
    Path("rewards/more").mkdir()
    Path("rewards/a.pt2").symlink_to("a.ckpt")
    told = folder_faults(Path("rewards"), [row])
    assert len(told) == 5
    assert "rewards/a.pt2 is a link or a folder" in told


def test_the_widest_that_was_held_is_told_whatever_came_later() -> None:
    rounds = [{"event": "round", "participants": [{"name": "a", "width": width}]} for width in (0.5, 1.0, 0.25)]
    assert held_in_rounds([{"event": "start"}, *rounds]) == {"a": 1.0}


@pytest.mark.parametrize("widths", [(0.5, 1.0), (1.0, 0.5)])
def test_together_nested_files_rebuild_the_widest_of_them(network: SlimmableModel, widths: tuple[float, ...]) -> None:
    count = {width: network.plan(width).numel() for width in widths}
    findings = [Finding(f"p{width}", width, None, count[width], {}, ()) for width in widths]
    content = describe_audit(findings, network, {}, {})
    assert content["coalition"] == {"rebuilds": count[1.0], "widest_reward": count[1.0], "full": count[1.0]}
    assert content["sound"]
    assert not describe_audit([*findings, Finding("x", 0.5, None, 0, {}, ("odd",))], network, {}, {})["sound"]


def test_numbers_that_training_has_left_alone_prove_nothing(network: SlimmableModel) -> None:
    nn.init.ones_(network.full[1].weight)
    save_reward(Path("a.ckpt"), network.extract(0.5), hyper_parameters=HYPER_PARAMETERS, about=ABOUT)
    assert "withheld" not in faults(described({"participant": "a", "width": 0.5, "file": "a.ckpt"}), network)


def test_a_model_card_is_compared_byte_for_byte(network: SlimmableModel, row: Row) -> None:
    what = replace(earned(network), card="# Reward of a\n")
    Path("a.md").write_text(what.card)
    row |= {"card": "a.md", "card_sha256": sha256(Path("a.md"))}
    assert audit_reward(Path(), row, what).files["a.md"]
    assert folder_faults(Path(), [row]) == []
    withheld = [value.item() for value in network.full[0].weight.flatten()]
    for text in (f"{what.card}{withheld}", what.card[:-1], what.card.replace("\n", "\r\n")):
        Path("a.md").write_text(text, newline="")
        row["card_sha256"] = sha256(Path("a.md"))
        assert "a.md is not, byte for byte, what was earned" in audit_reward(Path(), row, what).faults
    Path("a.md").unlink()
    assert "a.md is missing" in audit_reward(Path(), row, what).faults
