import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aequa_lightning.run_folder.events import EventLog, append_metrics, latest_rounds, read_events, write_metrics


def test_events_torn_line_is_skipped_and_not_glued_to_the_next(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append("start", x=1)
    with log.path.open("ab") as file:
        file.write(b'{"event": "round", "rou')
    log.append("resume", x=2)
    assert [(event["event"], event["x"]) for event in read_events(log.path)] == [("start", 1), ("resume", 2)]


@pytest.mark.parametrize("after", [b"", b"\n"])
def test_events_line_torn_at_the_end_is_left_out(tmp_path: Path, after: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "start"}\n{"event": "round", "rou' + after)
    assert [event["event"] for event in read_events(path)] == ["start"]


@pytest.mark.parametrize("damage", [b'{"event": "rou', b"\0\0\0", b"17"])
def test_events_damaged_line_elsewhere_is_left_out_and_named(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "start"}\n' + damage + b'\n{"event": "finish"}\n')
    with pytest.warns(UserWarning, match="Line 2 of"):
        assert [event["event"] for event in read_events(path)] == ["start", "finish"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("[1]", "is no event"),
        ('{"event": ["round"]}', "is no event"),
        ('{"event": "round"}', "is an event 'round' without a proper 'round'"),
        ('{"event": "round", "round": "3"}', "is an event 'round' without a proper 'round'"),
        ('{"event": "round", "round": 3, "seconds": 1}', "without a proper 'validation_accuracy'"),
        ('{"event": "standalone"}', "without a proper 'participant'"),
    ],
)
@pytest.mark.parametrize("after", ["", '{"event": "resume"}\n', '{"event": "finish"}\n'])
def test_event_that_lacks_what_it_is_about_is_left_out_and_named(
    tmp_path: Path, line: str, fault: str, after: str
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "start"}\n' + f"{line}\n{after}")
    with pytest.warns(UserWarning, match="Line 2 of") as told:
        events = read_events(path)
    assert [event["event"] for event in events] == ["start", *([json.loads(after)["event"]] if after else [])]
    (warning,) = told
    assert re.search(f"Line 2 of {path} .*{fault} and was left out", str(warning.message))


def test_events_left_out_line_is_named_once_however_often_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "round"}\n')
    imports = "from pathlib import Path\nfrom aequa_lightning.run_folder.events import read_events"
    code = f"{imports}\npath = Path({str(path)!r})"
    lines = f"{code}\nread_events(path)\nread_events(path)\n"
    told = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True).stderr
    assert told.count("Line 1 of") == 1


def test_events_not_finite_is_refused_and_nothing_written(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append("start")
    with pytest.raises(ValueError, match="Out of range float"):
        log.append("round", loss=float("nan"))
    assert len(read_events(log.path)) == 1


def test_events_metrics_hold_one_row_a_round_the_last_record_wins(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    for number, loss in ((1, 3.0), (2, 2.0), (2, 1.5), (3, 1.0)):
        log.append("round", round=number, train_loss=loss, seconds=1.0, validation_accuracy={"1": 0.5, "0.5": 0.4})
    events = read_events(log.path)
    assert [event["train_loss"] for event in latest_rounds(events)] == [3.0, 1.5, 1.0]
    write_metrics(tmp_path / "metrics.csv", [event for event in events if event["round"] < 3])
    append_metrics(tmp_path / "metrics.csv", events[-1])
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["round"] for row in rows] == ["1", "2", "3"]
    assert rows[1]["train_loss"] == "1.5"
    assert rows[0]["validation_accuracy/0.5"] == "0.4"


def test_events_first_row_makes_the_table_and_no_row_unmakes_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    append_metrics(path, {"round": 1, "train_loss": 3.0, "seconds": 1.0, "validation_accuracy": {"1": 0.5}})
    assert path.read_text() == "round,train_loss,seconds,validation_accuracy/1\n1,3.0,1.0,0.5\n"
    write_metrics(path, [])
    assert not path.exists()
