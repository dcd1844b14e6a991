"""A run as its folder tells it: the plain files of `fit`, read into dataclasses. No torch."""

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aequa_lightning.errors import InputError
from aequa_lightning.events import BEGINNINGS, Event, latest_rounds, read_events

# Most participants that each have a row and a mark; of more, as many from either end have a row.
LEGIBLE, ENDS = 200, 20


@dataclass(frozen=True)
class Participant:
    """One participant: what it held, what it reached alone and what it received; accuracies in 0..1.

    What the run has not reached yet is None. ``standalone``, ``contribution``, ``received`` and ``gain`` are measured
    on the validation part, the names that end in ``test`` on the test part. ``by_layer`` says whether the layers of
    what it received have different widths; ``width`` is then but a number for them.
    """

    number: int
    name: str
    samples: int
    class_counts: tuple[int, ...] = ()
    standalone: float | None = None
    standalone_test: float | None = None
    standalone_seconds: float = 0.0
    contribution: float | None = None
    width: float | None = None
    by_layer: bool = False
    received: float | None = None
    received_test: float | None = None
    gain: float | None = None
    reward_bytes: int | None = None


@dataclass(frozen=True)
class Round:
    """One round: its time in seconds, also by phase, the bytes sent and the validation accuracy of each width.

    ``epsilon`` is the privacy spent so far, None where there is none.
    """

    number: int
    seconds: float
    seconds_by_phase: Mapping[str, float]
    accuracy_by_width: Mapping[float, float]
    bytes_sent: int
    rejected: tuple[str, ...]
    epsilon: float | None = None


@dataclass(frozen=True)
class Allocation:
    """The allocation of widths; ``pearson`` is None where a constant vector leaves it undefined.

    Gains (``mcg``, ``cgs``, ``minimum_gain``) are None where nobody trained alone.
    ``by_layer`` are the widths that are but numbers for networks whose layers have different ones.
    """

    objective: str
    slope: float
    widths: tuple[float, ...]
    accuracy_by_width: Mapping[float, float]
    by_layer: frozenset[float]
    inversions: tuple[Mapping[str, Any], ...]
    mcg: float | None
    cgs: float | None
    minimum_gain: float | None
    pearson: float | None
    pearson_test: float | None
    certificate: Mapping[str, Any]
    uncertainty: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Front:
    """What could have been chosen: pairs of mean gain and spread, ascending, and the pair that was chosen."""

    pairs: tuple[tuple[float, float], ...]
    chosen: tuple[float, float]


@dataclass(frozen=True)
class Run:
    """Everything that a report tells about one run folder.

    ``start`` is the record's first event as it stands: versions, machine, data and model. ``scores`` maps a
    contribution estimator to one value a participant, ``gates`` the name of whoever the gates caught to the reason, or
    None where there were no gates. ``ending`` is the ``finish`` or ``stop`` event, or None for a run that is going on
    or was killed.
    """

    folder: Path
    start: Mapping[str, Any]
    participants: tuple[Participant, ...]
    rounds: tuple[Round, ...]
    resumes: int = 0
    ending: Mapping[str, Any] | None = None
    paid_by: str | None = None
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    gates: Mapping[str, str] | None = None
    allocation: Allocation | None = None
    front: Front | None = None
    config: str | None = None

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def ranking(self) -> tuple[Participant, ...]:
        """The participants by contribution, the largest first; in their own order while that is not known."""
        return tuple(sorted(self.participants, key=lambda p: -(_first(p.contribution, p.standalone) or 0.0)))

    @property
    def crowded(self) -> bool:
        """Whether the participants are too many for a row and a mark each."""
        return len(self.participants) > LEGIBLE

    @property
    def listed(self) -> tuple[Participant, ...]:
        """Those with a row in tables, by contribution: all, or where that is too many the first and the last."""
        return (*self.ranking[:ENDS], *self.ranking[-ENDS:]) if self.crowded else self.ranking

    @property
    def paid_by_accuracy(self) -> bool:
        """Whether the contribution that was paid for is the accuracy alone, as it is by default."""
        return self.paid_by in (None, "standalone")

    @property
    def own_models(self) -> bool:
        """Whether participants received models of their own, so that those of one width differ in what they reach."""
        received = {(p.width, p.received) for p in self.participants if p.received is not None}
        return len(received) > len({width for width, _ in received})

    @property
    def full_accuracy(self) -> float | None:
        """Validation accuracy of the full width: as allocated, else of the last round."""
        if self.allocation is not None:
            return _widest(self.allocation.accuracy_by_width)
        return _widest(self.rounds[-1].accuracy_by_width) if self.rounds else None

    @property
    def seconds(self) -> float:
        """Wall time of the run, or of its rounds while it has not finished."""
        finished = (self.ending or {}).get("seconds")
        return float(finished) if finished is not None else sum(r.seconds for r in self.rounds)

    @property
    def seconds_by_phase(self) -> dict[str, float]:
        """Seconds of each phase over all rounds."""
        phases = dict.fromkeys(phase for r in self.rounds for phase in r.seconds_by_phase)
        return {phase: sum(r.seconds_by_phase.get(phase, 0.0) for r in self.rounds) for phase in phases}


def read_run(folder: Path) -> Run:
    """Read a run folder; what `fit` has not written yet is left out.

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
    with _reading(record):
        run = _from_events(folder, _latest_run(read_events(record), record))
    with _reading(folder / "contributions.csv"):
        run = _with_scores(run, folder / "contributions.csv")
    with _reading(folder / "allocation.json"):
        run = _with_allocation(run, folder / "allocation.json")
    with _reading(folder / "frontier.json"):
        run = _with_front(run, folder / "frontier.json")
    with _reading(folder / "rewards" / "manifest.json"):
        run = _with_rewards(run, folder / "rewards" / "manifest.json")
    config = folder / "config.yaml"
    return replace(run, config=config.read_text()) if config.is_file() else run


def _latest_run(events: list[Event], record: Path) -> list[Event]:
    """Return the events from the last start, which begins the record anew; a resume tells as much as a start."""
    starts = [place for place, event in enumerate(events) if event["event"] == "start"]
    events = events[starts[-1] :] if starts else events
    if not events or events[0]["event"] not in BEGINNINGS:
        raise InputError(f"{record} does not begin with a start event; run `aequa fit` to the end of its set-up first.")
    return events


def _from_events(folder: Path, events: list[Event]) -> Run:
    start, data = events[0], events[0]["data"]
    counts = data.get("class_counts") or [()] * len(data["participants"])
    alone = {e["participant"]: e for e in events if e["event"] == "standalone"}
    people = tuple(
        Participant(
            number=number,
            name=name,
            samples=samples,
            class_counts=tuple(held),
            standalone=alone.get(name, {}).get("validation_accuracy"),
            standalone_test=alone.get(name, {}).get("test_accuracy"),
            standalone_seconds=alone.get(name, {}).get("seconds", 0.0),
        )
        for number, (name, samples, held) in enumerate(zip(data["participants"], data["samples"], counts, strict=True))
    )
    endings = [e for e in events if e["event"] in {"finish", "stop", "resume"}]
    paid_by = [e["paid_by"] for e in events if e["event"] == "contributions"]
    return Run(
        folder=folder,
        start=start,
        participants=people,
        rounds=tuple(map(_round, latest_rounds(events))),
        resumes=sum(e["event"] == "resume" for e in events),
        ending=endings[-1] if endings and endings[-1]["event"] != "resume" else None,
        paid_by=paid_by[-1] if paid_by else None,
    )


def _round(event: Mapping[str, Any]) -> Round:
    return Round(
        number=event["round"],
        seconds=event["seconds"],
        seconds_by_phase=event.get("seconds_by_phase", {}),
        accuracy_by_width=_by_width(event.get("validation_accuracy", {})),
        bytes_sent=event.get("bytes_sent", 0),
        rejected=tuple(str(who) for who in event.get("rejected", ())),
        epsilon=event.get("epsilon"),
    )


def _with_scores(run: Run, path: Path) -> Run:
    if not path.is_file():
        return run
    with path.open(newline="") as file:
        rows = {row["participant"]: row for row in csv.DictReader(file)}
    ordered = [rows[p.name] for p in run.participants]
    others = {"participant", "samples", "gates"}
    # Where nobody trained alone, that column is empty.
    columns = [column for column, value in ordered[0].items() if column not in others and value != ""]
    scores = {c.removesuffix("_accuracy"): tuple(float(row[c]) for row in ordered) for c in columns}
    caught = {name: row["gates"] for name, row in rows.items() if row.get("gates")}
    return replace(run, scores=scores, gates=caught if "gates" in ordered[0] else None)


def _with_allocation(run: Run, path: Path) -> Run:
    if not path.is_file():
        return run
    content = json.loads(path.read_text())
    paid = {entry["name"]: entry for entry in content["participants"]}
    allocation = Allocation(
        objective=content["objective"],
        slope=float(content["slope"]),
        widths=tuple(content["widths"]),
        accuracy_by_width=_by_width(content["accuracy_by_width"]),
        by_layer=frozenset(map(float, content.get("layers", ()))),
        inversions=tuple(content.get("inversions", ())),
        mcg=content["mcg"],
        cgs=content["cgs"],
        minimum_gain=content["minimum_gain"],
        pearson=content["pearson"],
        pearson_test=content.get("pearson_test"),
        certificate=content.get("certificate") or {},
        uncertainty=content.get("uncertainty"),
    )
    people = tuple(
        replace(
            p,
            contribution=paid[p.name]["contribution"],
            width=paid[p.name]["width"],
            by_layer="layers" in paid[p.name],
            received=paid[p.name]["accuracy"],
            gain=paid[p.name]["gain"],
            standalone_test=_first(paid[p.name].get("standalone_test"), p.standalone_test),
            received_test=paid[p.name].get("test_accuracy"),
        )
        for p in run.participants
    )
    return replace(run, participants=people, allocation=allocation)


def _with_front(run: Run, path: Path) -> Run:
    if not path.is_file():
        return run
    content = json.loads(path.read_text())
    pairs = sorted((entry["mcg"], entry["cgs"]) for entry in content["front"])
    return replace(run, front=Front(tuple(pairs), (content["chosen"]["mcg"], content["chosen"]["cgs"])))


def _with_rewards(run: Run, path: Path) -> Run:
    if not path.is_file():
        return run
    files = {reward["participant"]: reward for reward in json.loads(path.read_text())["rewards"]}
    people = tuple(
        replace(
            p,
            received_test=_first(p.received_test, files[p.name].get("test_accuracy")),
            reward_bytes=files[p.name]["bytes"],
        )
        if p.name in files
        else p
        for p in run.participants
    )
    return replace(run, participants=people)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what a malformed file raises into one sentence about that file."""
    try:
        yield
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path} lacks {error}; write it again with `aequa fit` or `aequa allocate`.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); write it again with `aequa fit` or `aequa allocate`."
        ) from error


def _by_width(accuracies: Mapping[str, float]) -> dict[float, float]:
    return dict(sorted((float(width), accuracy) for width, accuracy in accuracies.items()))


def _widest(accuracy_by_width: Mapping[float, float]) -> float | None:
    return accuracy_by_width[max(accuracy_by_width)] if accuracy_by_width else None


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
