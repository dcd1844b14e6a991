from pathlib import Path

import pytest
import torch

from aequa_lightning.engine.checkpoint import (
    discard_later_rounds,
    load_checkpoint,
    load_last,
    oldest_round,
    save_checkpoint,
)
from aequa_lightning.errors import InputError


def _save(folder: Path, number: int) -> Path:
    return save_checkpoint(folder, {"round": number, "state_dict": {"weight": torch.full((100,), float(number))}})


def test_checkpoint_last_is_the_newest_and_older_ones_are_pruned(tmp_path: Path) -> None:
    for number in range(1, 5):
        _save(tmp_path, number)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "last.ckpt",
        "round-0003.ckpt",
        "round-0003.ckpt.sha256",
        "round-0004.ckpt",
        "round-0004.ckpt.sha256",
    ]
    assert load_checkpoint(tmp_path / "last.ckpt")["round"] == 4
    state = load_last(tmp_path)
    assert state is not None
    assert state["round"] == 4


@pytest.mark.parametrize(("keep", "rounds"), [(1, [4]), (3, [2, 3, 4])])
def test_checkpoint_keeps_as_many_as_requested(tmp_path: Path, keep: int, rounds: list[int]) -> None:
    for number in range(1, 5):
        save_checkpoint(tmp_path, {"round": number}, keep=keep)
    assert [path.name for path in sorted(tmp_path.glob("*.ckpt"))][1:] == [f"round-{n:04d}.ckpt" for n in rounds]


def test_checkpoint_rounds_may_have_more_than_four_digits(tmp_path: Path) -> None:
    for number in (9998, 9999, 10000, 10001):
        _save(tmp_path, number)
    state = load_last(tmp_path)
    assert state is not None
    assert (state["round"], oldest_round(tmp_path)) == (10001, 10000)


def test_checkpoint_of_a_discarded_round_is_deleted(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        save_checkpoint(tmp_path, {"round": number, "course": "old"}, keep=4)
    discard_later_rounds(tmp_path, 1)
    # A kill before the next checkpoint leads back to where the new course began.
    state = load_last(tmp_path)
    assert state is not None
    assert state["round"] == load_checkpoint(tmp_path / "last.ckpt")["round"] == 1
    save_checkpoint(tmp_path, {"round": 2, "course": "new"}, keep=4)
    state = load_last(tmp_path)
    assert state is not None
    assert (state["round"], state["course"]) == (2, "new")
    assert [path.name for path in sorted(tmp_path.glob("round-*.ckpt"))] == ["round-0001.ckpt", "round-0002.ckpt"]


def test_checkpoint_left_incomplete_by_a_kill_is_completed(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    newest = _save(tmp_path, 2)
    newest.with_name(newest.name + ".sha256").unlink()
    (tmp_path / "last.ckpt").unlink()
    discard_later_rounds(tmp_path, 2)
    assert load_checkpoint(tmp_path / "last.ckpt")["round"] == 2
    newest.write_bytes(newest.read_bytes() + b"x")
    with pytest.raises(InputError, match="SHA-256"):
        load_checkpoint(newest)
    discard_later_rounds(tmp_path / "nowhere", 2)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_checkpoint_damaged_newest_is_skipped_with_a_warning(tmp_path: Path, damage: str) -> None:
    _save(tmp_path, 1)
    newest = _save(tmp_path, 2)
    content = bytearray(newest.read_bytes())
    if damage == "truncate":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[len(content) // 2] ^= 1
    else:
        content = bytearray()
    newest.write_bytes(content)
    with pytest.raises(InputError, match="round-0002"):
        load_checkpoint(newest)
    with pytest.warns(UserWarning, match="Going on from the one before"):
        state = load_last(tmp_path)
    assert state is not None
    assert state["round"] == 1


def test_checkpoint_last_is_a_copy_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    for number in (1, 2):
        _save(tmp_path, number)
        assert load_checkpoint(tmp_path / "last.ckpt")["round"] == number


def test_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"round": 1, "folder": tmp_path}, tmp_path / "round-0001.ckpt")
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "round-0001.ckpt")


def test_checkpoint_all_damaged_is_an_error(tmp_path: Path) -> None:
    _save(tmp_path, 1).write_bytes(b"torn")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(InputError, match="Every checkpoint"):
        load_last(tmp_path)


def test_checkpoint_none_yet(tmp_path: Path) -> None:
    assert load_last(tmp_path / "nowhere") is None


def test_checkpoint_truncated_without_a_hash_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path, 1)
    path.with_name(path.name + ".sha256").unlink()
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="truncated"):
        load_checkpoint(path)


def test_checkpoint_damaged_last_given_by_its_path_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {"round": 1, "weight": torch.rand(1000)})
    last = tmp_path / "last.ckpt"
    assert load_checkpoint(last)["round"] == 1
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        load_checkpoint(last)


def test_checkpoint_in_the_old_format_of_torch_needs_no_check_sums(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert torch.equal(load_checkpoint(tmp_path / "old.ckpt")["state_dict"]["a"], torch.ones(2))


def test_checkpoint_hash_that_is_no_text_is_damage(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    newest = _save(tmp_path, 2)
    newest.with_name(newest.name + ".sha256").write_bytes(b"\xff\xfe" * 33)
    with pytest.warns(UserWarning, match="Going on from the one before"):
        state = load_last(tmp_path)
    assert state is not None
    assert state["round"] == 1
