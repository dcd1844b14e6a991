import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aequa_lightning.__main__ import main
from aequa_lightning.run_folder.files import write_atomically, write_json


def test_files_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_files_json_refuses_what_other_readers_do_not_take(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "x.json", {"x": float("inf")})
    assert not (tmp_path / "x.json").exists()


def test_files_command_on_a_full_disk_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(words: list[str]) -> None:
        Path("/dev/full").write_text("a picture")

    monkeypatch.setattr("aequa_lightning.commands.run.run_command", draw)
    assert main(["report", "--run_dir", "run"]) == 1
    assert capsys.readouterr().err == (
        "aequa: error: a file cannot be written: No space left on device. Make room and try again.\n"
    )


def test_files_writers_of_one_process_do_not_meet(tmp_path: Path) -> None:
    path, contents = tmp_path / "shared.json", [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_atomically(path, content), contents * 4))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]
