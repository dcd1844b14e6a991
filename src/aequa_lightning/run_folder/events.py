"""``events.jsonl``, the append-only record of a run, and ``metrics.csv``, which is derived from it."""

import io
import json
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aequa_lightning.run_folder.csv_files import csv_of
from aequa_lightning.run_folder.damaged_files import parse_json
from aequa_lightning.run_folder.files import naming, write_atomically

Event = dict[str, Any]

# The first event of a session of a run.
SESSION_STARTS = ("start", "resume")

# Fields that events must have to be usable.
FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "round": {"round": (int,), "seconds": (int, float), "validation_accuracy": (dict,)},
    "standalone": {"participant": (str,)},
    "contributions": {"paid_by": (str,)},
}


def read_events(path: Path) -> list[Event]:
    """Read the events of a run.

    A line that a kill or a full disk cut short is skipped: the session ended there, and a resumed session repeats its
    work and writes it again. Any other line that is no event, or lacks a required field, is skipped with a warning.

    Args:
        path: The file; a missing one reads as no events.

    Returns:
        The events in order.

    Example:
        >>> read_events(Path("no-such-file"))
        []
    """
    if not path.is_file():
        return []
    events: list[Event] = []
    torn: int | None = None
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        event, fault = _parse(line)
        if torn is not None and not (event and event["event"] in SESSION_STARTS):
            _warn(path, torn, "is no event")
        torn = number if event is None and fault is None else None
        if fault is not None:
            _warn(path, number, fault)
        if event is not None:
            events.append(event)
    return events


def _parse(line: bytes) -> tuple[Event | None, str | None]:
    """Return the event of a line, or the reason why it has none; two Nones for a line that was cut short."""
    try:
        content = parse_json(line)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(content, dict) or not isinstance(content.get("event"), str):
        return None, "is no event"
    for field, kinds in FIELDS.get(content["event"], {}).items():
        if not isinstance(content.get(field), kinds):
            return None, f"is an event {content['event']!r} without a proper {field!r}"
    return content, None


def _warn(path: Path, number: int, fault: str) -> None:
    # stacklevel=1 makes Python show the warning once, however often a process reads the file.
    warnings.warn(f"Line {number} of {path} {fault} and was left out.", stacklevel=1)


class EventLog:
    """Appends events, one JSON object a line, each written before :meth:`append` returns.

    Args:
        path: The file; made when missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: str, **fields: Any) -> None:
        """Add one event with the time in seconds since the epoch.

        Args:
            event: Kind of the event, such as ``round``.
            **fields: JSON values.

        Raises:
            ValueError: A value is not finite.
            OSError: The disk is full; it names the file.
        """
        line = json.dumps({"event": event, "time": time.time(), **fields}, allow_nan=False)
        with naming(self.path), self.path.open("ab+") as file:
            # After a crash the last line may lack its newline.
            if file.tell() > 0:
                file.seek(-1, io.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(line.encode() + b"\n")


def latest_rounds(events: Iterable[Event]) -> list[Event]:
    """Return the last record of each round, in order of rounds; a resumed run repeats some.

    Example:
        >>> latest_rounds([{"event": "round", "round": 1, "x": 1}, {"event": "round", "round": 1, "x": 2}])
        [{'event': 'round', 'round': 1, 'x': 2}]
    """
    rounds = {event["round"]: event for event in events if event["event"] == "round"}
    return [rounds[number] for number in sorted(rounds)]


def write_metrics(path: Path, events: Iterable[Event]) -> None:
    """Write ``metrics.csv`` anew, one row a round, from the events.

    Args:
        path: The file; removed when there is no round.
        events: Events of the run.
    """
    rows = [_metrics_row(event) for event in latest_rounds(events)]
    if not rows:
        path.unlink(missing_ok=True)
        return
    write_atomically(path, csv_of(rows).encode())


def append_metrics(path: Path, event: Event) -> None:
    """Append a round's row to ``metrics.csv``, without reading the rounds before it.

    Args:
        path: The file; made when missing.
        event: The round's event, with the accuracies of the same widths as all rounds of the file.
    """
    if not path.is_file():
        write_metrics(path, [{"event": "round", **event}])
        return
    row = _metrics_row(event)
    with naming(path), path.open("a", newline="", encoding="utf-8") as file:
        file.write(csv_of([row], header=False))


def _metrics_row(event: Event) -> dict[str, float | None]:
    row = {"round": event["round"], "train_loss": event.get("train_loss"), "seconds": event["seconds"]}
    if "epsilon" in event:
        row["epsilon"] = event["epsilon"]
    return row | {f"validation_accuracy/{width}": value for width, value in event["validation_accuracy"].items()}
