"""Rewards between two widths, of which the layers have different shares: from the fit to the owner's file."""

import io
import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from rich.console import Console

from aequa_lightning.modules import RewardClassifier
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.report import summary_table
from aequa_lightning.report.formatting import format_width
from tests.helpers.command import aequa, fit, parameters


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose rewards were allocated over the full width and widths of single layers alone."""
    folder = fit(
        tmp_path_factory.mktemp("layers") / "run",
        "--model.backbone_options={channels: 4}",
        "--trainer.mechanism.resolution=0.005",
        "--trainer.mechanism.per_layer_widths=true",
        "--optimizer.init_args.lr=0.02",
        rounds=3,
    )
    path = folder / "allocation.json"
    content = json.loads(path.read_text())
    assert content["layers"]
    assert content["layers"].keys() <= {repr(width) for width in content["widths"]}
    content["accuracy_by_width"] = {
        width: accuracy
        for width, accuracy in content["accuracy_by_width"].items()
        if width in content["layers"] or width == "1.0"
    }
    path.write_text(json.dumps(content))
    # The certificate of the run is for the whole curve.
    with mock.patch("aequa_lightning.trainer.checkpoints.certificate_faults", return_value=[]):
        assert aequa("allocate", "--run_dir", folder, "--objective", "spread_minus_gain") == 0
    return folder


def _rows(run_dir: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((run_dir / "rewards" / "manifest.json").read_text())["rewards"]
    return rows


def test_manifest_and_allocation_say_the_shares_of_the_layers(run_dir: Path) -> None:
    allocation, rows = json.loads((run_dir / "allocation.json").read_text()), _rows(run_dir)
    assert any("layers" in row for row in rows)
    for person, row in zip(allocation["participants"], rows, strict=True):
        assert person.get("layers") == row.get("layers") == allocation["layers"].get(repr(row["width"]))
        assert (row["width"] < 1) == ("layers" in row)
        assert person["accuracy"] == row["validation_accuracy"]
        if "layers" in row:
            assert min(row["layers"].values()) < row["width"] < max(row["layers"].values())


def test_report_and_terminal_mark_whose_layers_differ(run_dir: Path) -> None:
    assert aequa("report", "--run_dir", run_dir) == 0
    console = Console(file=io.StringIO(), width=80)
    console.print(summary_table(run_dir))
    shown, page = console.file.getvalue(), (run_dir / "report.html").read_text()  # type: ignore[attr-defined]
    assert "* layers have different widths" in shown
    assert "A star marks" in page
    for row in _rows(run_dir):
        star = "*" if "layers" in row else ""
        line = next(line for line in shown.splitlines() if row["participant"] in line)
        assert f" {format_width(row['width'])}{star} " in line
        assert f"<td>{format_width(row['width'])}{star}<" in page


def test_a_file_holds_the_part_of_its_layers_to_the_bit(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = next(row for row in _rows(run_dir) if "layers" in row)
    path = run_dir / "rewards" / row["file"]
    reward = RewardClassifier.load_from_checkpoint(path, weights_only=True)
    options = {"channels": 4}
    server = SlimmableClassifier(10, (1, 8, 8), backbone="cnn3", backbone_options=options, widths=[1.0, 0.5, 0.25])
    server.load_state_dict(parameters(run_dir), strict=False)
    expected = server.network.extract(row["layers"], fresh_statistics=True)
    assert {name: tuple(value.shape) for name, value in reward.network.named_parameters()} == {
        name: tuple(value.shape) for name, value in expected.named_parameters()
    }
    assert all(torch.equal(*pair) for pair in zip(reward.network.parameters(), expected.parameters(), strict=True))
    assert aequa("test", "--config", run_dir / "config.yaml", "--ckpt_path", path) == 0
    assert repr(row["test_accuracy"]) in capsys.readouterr().out


def test_the_audit_knows_the_layers(run_dir: Path) -> None:
    assert aequa("audit", "--run_dir", run_dir) == 0
    report = json.loads((run_dir / "audit.json").read_text())
    assert report["coalition"]["rebuilds"] == report["coalition"]["widest_reward"]
    assert [row["layers"] for row in report["rewards"]] == [row.get("layers") for row in _rows(run_dir)]

    shutil.copytree(run_dir, "tampered")
    path = Path("tampered/rewards/manifest.json")
    manifest = json.loads(path.read_text())
    row = next(row for row in manifest["rewards"] if "layers" in row)
    row["layers"] = dict.fromkeys(row["layers"], min(row["layers"].values()))
    path.write_text(json.dumps(manifest))
    with pytest.raises(SystemExit):
        aequa("audit", "--run_dir", "tampered")
    faulty = [row for row in json.loads(Path("tampered/audit.json").read_text())["rewards"] if row["faults"]]
    assert [found["participant"] for found in faulty] == [row["participant"]]
    assert "withheld" in " ".join(faulty[0]["faults"])
