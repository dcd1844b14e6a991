"""The manifest of a payout: what its readers refuse, and in which words."""

import json
from pathlib import Path
from typing import Any

import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.rewards.files.manifest import (
    manifest_faults,
    read_manifest,
    row_faults,
    verify_reward,
    write_manifest,
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("17", "cannot be read"),
        ("\0\0\0", "cannot be read"),
        ("{}", "lacks 'round'"),
        ('{"round": 1, "rewards": []}', "lacks 'downloads'"),
        ('{"round": 1, "rewards": {}, "downloads": {}}', "cannot be read .its 'rewards'"),
        ('{"round": true, "rewards": [], "downloads": {}}', "cannot be read .its 'round'"),
        ('{"round": 1, "rewards": [], "downloads": {"a": "b"}}', "cannot be read .its 'downloads'"),
        ('{"round": 1, "rewards": [], "downloads": {}, "versions": {"torch": "?"}}', "cannot be read .its 'versions'"),
        ('{"round": 1, "rewards": [], "downloads": {}, "configuration": "x"}', "cannot be read .its 'configuration'"),
        ('{"round": NaN, "rewards": [], "downloads": {}}', "cannot be read .NaN is no number"),
        ('{"round": 1, "round": 2, "rewards": [], "downloads": {}}', "cannot be read .a key stands there twice"),
        ("[" * 100_000, "cannot be read"),
    ],
)
def test_a_damaged_manifest_is_named_with_the_remedy(text: str, fault: str) -> None:
    Path("rewards").mkdir()
    Path("rewards/a.ckpt").touch()
    Path("rewards/manifest.json").write_text(text)
    with pytest.raises(InputError, match=rf"^rewards/manifest\.json {fault}.*; `aequa allocate` or .* again\.$"):
        read_manifest(Path("rewards"))
    with pytest.raises(InputError, match=fault):
        verify_reward(Path("rewards/a.ckpt"))


def test_a_row_that_is_none_is_told_by_who_looks_for_a_file() -> None:
    Path("rewards").mkdir()
    Path("rewards/a.ckpt").touch()
    for rows in ([{"participant": "a"}], [None], [{"file": ["a"], "sha256": 5}]):
        Path("rewards/manifest.json").write_text(json.dumps({"round": 1, "rewards": rows, "downloads": {}}))
        with pytest.raises(InputError, match=r"manifest\.json"):
            verify_reward(Path("rewards/a.ckpt"))


DIGEST = "0" * 64
ROW: dict[str, Any] = {
    "file": "a.ckpt",
    "participant": "a",
    "width": 0.5,
    "validation_accuracy": 0.9,
    "test_accuracy": 1.0,
    "best_held": None,
    "bytes": 7,
    "sha256": DIGEST,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"note": "hidden"}, "holds 'note'"),
        ({"width": "wide"}, "'width' is 'wide'"),
        ({"width": 0}, "its width is 0"),
        ({"layers": {"conv": 2}}, "its width is 2"),
        ({"layers": [0.5]}, "'layers' is"),
        ({"file": 5}, "'file' is 5"),
        ({"file": "../b.ckpt"}, "its file is '../b.ckpt'"),
        ({"program": "b.pt2", "program_sha256": DIGEST}, "its program is 'b.pt2'"),
        ({"program": "a.pt2"}, "of program and program_sha256 one is missing"),
        ({"sha256": "0" * 63}, "'sha256' is"),
        ({"sha256": DIGEST.upper().replace("0", "A")}, "'sha256' is"),
        ({"bytes": -1}, "'bytes' is -1"),
        ({"bytes": True}, "'bytes' is True"),
        ({"test_accuracy": 1.5}, "'test_accuracy' is 1.5"),
        ({"best_held": {"round": 1}}, "'best_held' is {'round': 1}"),
        ({"validation_accuracy": None}, "'validation_accuracy' is None"),
    ],
)
def test_a_row_holds_what_a_row_may_hold(changes: dict[str, Any], words: str) -> None:
    assert row_faults(ROW) == []
    assert words in "; ".join(row_faults(ROW | changes))
    assert row_faults({key: value for key, value in ROW.items() if key != "bytes"}) == [
        "manifest.json, row of 'a': lacks 'bytes'"
    ]


def test_a_manifest_that_was_written_has_no_faults_and_tells_of_its_configuration() -> None:
    Path("config.yaml").write_text("trainer: {run_dir: here}")
    write_manifest(Path("rewards"), [ROW], {"round-0001/a.safetensors": DIGEST}, number=3)
    path = Path("rewards/manifest.json")
    content = read_manifest(Path("rewards"))
    assert list(manifest_faults(content, size=path.stat().st_size)) == []
    path.write_text(path.read_text() + " " * 1000)
    assert list(manifest_faults(content, size=path.stat().st_size)) == ["manifest.json is longer than what it says"]
    found = "; ".join(manifest_faults({**content, "rewards": [ROW, ROW], "note": "x"}, size=0))
    assert "names a twice" in found
    assert "holds 'note'" in found
