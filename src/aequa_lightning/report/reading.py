"""Reads the files of a run folder into dataclasses. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aequa_lightning.errors import InputError
from aequa_lightning.report.records import AllocationRecord, Front, Participant, Round, RunRecord, first_known
from aequa_lightning.run_folder.csv_files import read_csv
from aequa_lightning.run_folder.damaged_files import possibly_damaged, read_json
from aequa_lightning.run_folder.events import SESSION_STARTS, Event, latest_rounds, read_events


def read_run(folder: Path) -> RunRecord:
    """Read a run folder; fields whose files are not there yet keep their defaults.

    Args:
        folder: A folder that `aequa fit` wrote, finished or not.

    Returns:
        The run.

    Raises:
        InputError: When the folder is no run or one of its files cannot be read.
    """
    record = folder / "events.jsonl"
    if not record.is_file():
        raise InputError(f"{folder} is no run folder: it has no events.jsonl. Give the `run_dir` of an `aequa fit`.")
    with possibly_damaged(record):
        run = _from_events(folder, _latest_run(read_events(record), record))
    with possibly_damaged(folder / "contributions.csv"):
        run = _with_scores(run, folder / "contributions.csv")
    with possibly_damaged(folder / "allocation.json"):
        run = _with_allocation(run, folder / "allocation.json")
    with possibly_damaged(folder / "frontier.json"):
        run = _with_front(run, folder / "frontier.json")
    with possibly_damaged(folder / "rewards" / "manifest.json"):
        run = _with_rewards(run, folder / "rewards" / "manifest.json")
    config = folder / "config.yaml"
    with possibly_damaged(config):
        return replace(run, config=config.read_text(encoding="utf-8")) if config.is_file() else run


def _latest_run(events: list[Event], record: Path) -> list[Event]:
    """Return the events from the last start on. A resumed run may begin with a resume, which has the same fields."""
    starts = [place for place, event in enumerate(events) if event["event"] == "start"]
    events = events[starts[-1] :] if starts else events
    if not events or events[0]["event"] not in SESSION_STARTS:
        raise InputError(f"{record} does not begin with a start event; run `aequa fit` to the end of its set-up first.")
    return events


def _from_events(folder: Path, events: list[Event]) -> RunRecord:
    start, data = events[0], events[0]["data"]
    counts = data.get("class_counts") or [()] * len(data["participants"])
    alone = {e["participant"]: e for e in events if e["event"] == "standalone"}
    # Whoever joined a federation later has told its number of samples then.
    joined = {e["participant"]: e["samples"] for e in events if e["event"] == "join"}
    people = tuple(
        Participant(
            number=number,
            name=name,
            samples=joined.get(name, samples),
            class_counts=tuple(held),
            standalone=_known(alone.get(name, {}).get("validation_accuracy")),
            standalone_test=_known(alone.get(name, {}).get("test_accuracy")),
            standalone_seconds=_number(alone.get(name, {}).get("seconds", 0.0)),
        )
        for number, (name, samples, held) in enumerate(zip(data["participants"], data["samples"], counts, strict=True))
    )
    endings = [e for e in events if e["event"] in {"finish", "stop", "resume"}]
    payouts = [e for e in events if e["event"] == "contributions"]
    return RunRecord(
        folder=folder,
        start=start,
        participants=people,
        rounds=tuple(map(_round, latest_rounds(events))),
        resumes=sum(e["event"] == "resume" for e in events),
        ending=endings[-1] if endings and endings[-1]["event"] != "resume" else None,
        paid_by=payouts[-1]["paid_by"] if payouts else None,
        meanings=payouts[-1].get("meanings", {}) if payouts else {},
    )


def _round(event: Mapping[str, Any]) -> Round:
    return Round(
        number=event["round"],
        seconds=_number(event["seconds"]),
        seconds_by_phase={str(k): _number(v) for k, v in event.get("seconds_by_phase", {}).items()},
        accuracy_by_width=_by_width(event.get("validation_accuracy", {})),
        bytes_sent=int(_number(event.get("bytes_sent", 0))),
        rejected=tuple(str(who) for who in event.get("rejected", ())),
        epsilon=_known(event.get("epsilon")),
    )


def _with_scores(run: RunRecord, path: Path) -> RunRecord:
    if not path.is_file():
        return run
    rows = {row["participant"]: row for row in read_csv(path)}
    ordered = [rows[p.name] for p in run.participants]
    others = {"participant", "samples", "gates"}
    # Without standalone training that column is empty.
    columns = [column for column, value in ordered[0].items() if column not in others and value != ""]
    scores = {c: tuple(_number(row[c]) for row in ordered) for c in columns}
    caught = {name: row["gates"] for name, row in rows.items() if row.get("gates")}
    return replace(run, scores=scores, gates=caught if "gates" in ordered[0] else None)


def _with_allocation(run: RunRecord, path: Path) -> RunRecord:
    if not path.is_file():
        return run
    content = read_json(path)
    paid = {entry["name"]: entry for entry in content["participants"]}
    allocation = AllocationRecord(
        objective=content["objective"],
        slope=_number(content["slope"]),
        widths=tuple(map(_number, content["widths"])),
        accuracy_by_width=_by_width(content["accuracy_by_width"]),
        by_layer=frozenset(map(float, content.get("layers", ()))),
        inversions=tuple(content.get("inversions", ())),
        mcg=_known(content["mcg"]),
        cgs=_known(content["cgs"]),
        minimum_gain=_known(content["minimum_gain"]),
        pearson=_known(content["pearson"]),
        pearson_test=_known(content.get("pearson_test")),
        certificate=content.get("certificate") or {},
        uncertainty=content.get("uncertainty"),
        unpaid=tuple(content.get("unpaid", ())),
        held=content.get("held"),
    )
    people = tuple(
        replace(
            p,
            contribution=_number(paid[p.name]["contribution"]),
            width=_number(paid[p.name]["width"]),
            by_layer="layers" in paid[p.name],
            received=_number(paid[p.name]["accuracy"]),
            gain=_known(paid[p.name]["gain"]),
            best_held=_known((paid[p.name].get("best_held") or {}).get("validation_accuracy")),
            standalone_test=first_known(_known(paid[p.name].get("standalone_test")), p.standalone_test),
            received_test=_known(paid[p.name].get("test_accuracy")),
        )
        for p in run.participants
    )
    return replace(run, participants=people, allocation=allocation)


def _with_front(run: RunRecord, path: Path) -> RunRecord:
    if not path.is_file():
        return run
    content = read_json(path)
    pairs = sorted((_number(entry["mcg"]), _number(entry["cgs"])) for entry in content["front"])
    return replace(
        run, front=Front(tuple(pairs), (_number(content["chosen"]["mcg"]), _number(content["chosen"]["cgs"])))
    )


def _with_rewards(run: RunRecord, path: Path) -> RunRecord:
    if not path.is_file():
        # Finished cells of a sweep have removed the folder.
        return replace(run, payout_unfinished=path.parent.is_dir())
    files = {reward["participant"]: reward for reward in read_json(path)["rewards"]}
    people = tuple(
        replace(
            p,
            received_test=first_known(p.received_test, _known(files[p.name].get("test_accuracy"))),
            reward_bytes=int(_number(files[p.name]["bytes"])),
        )
        if p.name in files
        else p
        for p in run.participants
    )
    return replace(run, participants=people)


def _by_width(accuracies: Mapping[str, float]) -> dict[float, float]:
    return dict(sorted((_number(width), _number(accuracy)) for width, accuracy in accuracies.items()))


def _number(value: Any) -> float:
    """Return a number, or the number that a text holds.

    Raises:
        TypeError: It is none; ValueError: it is not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{value!r:.40} is no number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r:.40} is not finite")
    return number


def _known(value: Any) -> float | None:
    return None if value is None else _number(value)
