from pathlib import Path

import pytest

from aequa_lightning.engine.processes.status import (
    SIZE,
    ProcessStatus,
    Status,
    claim_reporting,
    read_statuses,
    remove_statuses,
)


def test_status_is_readable_within_the_block_and_after_an_error(tmp_path: Path) -> None:
    here = ProcessStatus(tmp_path, 3)
    with here.at("training", round=2):
        here.note(participant="hospital")
        assert str(read_statuses(tmp_path)[3]) == "round 2, training of hospital"
    assert str(read_statuses(tmp_path)[3]) == "set-up"
    with pytest.raises(ValueError, match="no"), here.at("reduction", round=2):
        raise ValueError("no")
    assert str(read_statuses(tmp_path)[3]) == "round 2, reduction"


def test_status_file_keeps_its_size_and_continues(tmp_path: Path) -> None:
    here = ProcessStatus(tmp_path, 0)
    here.note(phase="a phase with a long name", participant="somebody with a long name")
    here.note(phase="b", participant=None)
    (path,) = tmp_path.rglob("rank-0.json")
    assert path.stat().st_size == SIZE
    assert ProcessStatus(tmp_path, 0).current.phase == "b"


def test_status_shorter_than_before_leaves_no_rest(tmp_path: Path) -> None:
    here = ProcessStatus(tmp_path, 0)
    for name in ("病院" * SIZE, "病院"):
        here.note(participant=name)
        assert read_statuses(tmp_path)[0].participant == name
    here.note(participant="病院" * SIZE)
    ProcessStatus(tmp_path, 0).note(participant="b")
    assert read_statuses(tmp_path)[0].participant == "b"


def test_status_torn_file_is_ignored(tmp_path: Path) -> None:
    ProcessStatus(tmp_path, 0)
    ProcessStatus(tmp_path, 1)
    (path,) = tmp_path.rglob("rank-0.json")
    path.write_text('{"rank": 0, "pha')
    assert read_statuses(tmp_path).keys() == {1}
    remove_statuses(tmp_path)
    assert read_statuses(tmp_path) == {}
    assert ProcessStatus(tmp_path, 1).current.phase == Status(1).phase


def test_status_one_process_claims_reporting(tmp_path: Path) -> None:
    ProcessStatus(tmp_path, 0)
    assert [claim_reporting(tmp_path) for _ in range(3)] == [True, False, False]


def test_status_all_processes_report_if_nothing_can_be_written(tmp_path: Path) -> None:
    assert [claim_reporting(tmp_path / "nowhere") for _ in range(2)] == [True, True]
