"""A run folder is held by one command, until the last of its processes has ended."""

import errno
import multiprocessing
import os
import socket
from pathlib import Path
from unittest.mock import patch

import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.lock import locked

fcntl = pytest.importorskip("fcntl", reason="Windows has no such locks")


def test_lock_folder_that_is_held_is_refused_and_one_that_was_is_not(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path):
            with pytest.raises(InputError) as refused, locked(tmp_path):
                pass
            for words in (repr(str(tmp_path)), f"process {os.getpid()} on {socket.gethostname()};"):
                assert words in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_lock_error_lets_the_folder_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        pass


def test_lock_process_that_was_forked_meanwhile_goes_on_holding_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    told = context.Event()
    with locked(tmp_path):
        child = context.Process(target=told.wait)
        child.start()
    with pytest.raises(InputError, match="in use"), locked(tmp_path):
        pass
    told.set()
    child.join()
    with locked(tmp_path):
        pass


def test_lock_work_is_done_where_nothing_can_be_locked(tmp_path: Path) -> None:
    done = []
    with locked(tmp_path / "missing"):
        done.append("no folder")
    with patch.object(fcntl, "flock", side_effect=OSError(errno.ENOLCK, "No locks available")), locked(tmp_path):
        done.append("no locks")
    assert done == ["no folder", "no locks"]


def test_lock_what_killed_commands_left_half_written_is_removed(tmp_path: Path) -> None:
    left = [tmp_path / ".metrics.csv.5eed.tmp"]
    left += [tmp_path / folder / f".{folder}.5eed.tmp" for folder in ("checkpoints", "rewards")]
    others = [tmp_path / name for name in ("notes.tmp", ".mine", "standalone/.a.json.5eed.tmp", "figures/.a.tmp")]
    for path in [*left, *others]:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with patch.object(fcntl, "flock", side_effect=OSError(errno.ENOLCK, "No locks available")), locked(tmp_path):
        assert all(path.exists() for path in left), "another command may be writing them"
    with locked(tmp_path):
        pass
    assert not [path for path in left if path.exists()]
    assert [path for path in others if path.exists()] == others


def test_lock_nothing_is_removed_from_a_folder_that_is_held(tmp_path: Path) -> None:
    with locked(tmp_path):
        half = tmp_path / ".metrics.csv.5eed.tmp"
        half.touch()
        with pytest.raises(InputError), locked(tmp_path):
            pass
        assert half.exists()


def test_lock_what_killed_writers_left_is_cleared_away_in_every_folder_of_a_run(tmp_path: Path) -> None:
    folders = ("checkpoints", "downloads/round-0001")
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "kept").touch()
        (tmp_path / folder / ".a.ckpt.5eed.tmp").touch()
    (tmp_path / "checkpoints" / ".last.ckpt.tmp").touch()
    with locked(tmp_path):
        assert not list(tmp_path.rglob("*.tmp"))
    assert all((tmp_path / folder / "kept").exists() for folder in folders)
