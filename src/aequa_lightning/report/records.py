"""What a report knows of a run, read from its folder. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Up to MAX_ROWS participants each have a row and a mark; of more, the first and the last have a row.
MAX_ROWS, ROWS_AT_EACH_END = 200, 20


@dataclass(frozen=True)
class ScoreRecord:
    """What networks are scored by: its name, and ``%`` where it is a share of samples, else no unit."""

    name: str = "accuracy"
    unit: str = "%"


ACCURACY = ScoreRecord()


@dataclass(frozen=True)
class Participant:
    """One participant: its data, its standalone accuracy and its reward; accuracies in 0..1.

    Values that the run has not reached yet are None. ``standalone``, ``contribution``, ``received`` and ``gain`` are of
    the validation part, the names that end in ``test`` of the test part. ``by_layer`` says whether the layers of
    its reward have different widths; ``width`` is then their place between the uniform widths. ``best_held`` is the
    best that it received in a round.
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
    best_held: float | None = None
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
class AllocationRecord:
    """The allocation of widths; ``pearson`` is None where a constant vector leaves it undefined.

    Gains (``mcg``, ``cgs``, ``minimum_gain``) are None where nobody trained alone.
    ``held`` has the same figures of what everybody can keep, the better of its reward and the best that it received in
    a round; None where that is not known.
    ``unpaid`` names the participants that were caught cheating in most rounds.
    ``by_layer`` holds the widths that stand for networks whose layers have different widths.
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
    unpaid: tuple[str, ...] = ()
    held: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Front:
    """The Pareto front: pairs of mean gain and spread, ascending, and the pair that was chosen."""

    pairs: tuple[tuple[float, float], ...]
    chosen: tuple[float, float]


@dataclass(frozen=True)
class RunRecord:
    """Everything that a report shows of one run folder.

    ``start`` is the record's first event as it stands: versions, machine, data and model. ``scores`` maps a
    contribution measure to one value a participant, ``meanings`` to what it measures. ``gates`` maps a flagged
    participant to the reason; None if there were no gates. ``ending`` is the ``finish`` or ``stop`` event, or None
    for a run that is going on or was killed. ``payout_unfinished`` says whether there are rewards without a manifest.
    """

    folder: Path
    start: Mapping[str, Any]
    participants: tuple[Participant, ...]
    rounds: tuple[Round, ...]
    resumes: int = 0
    ending: Mapping[str, Any] | None = None
    payout_unfinished: bool = False
    paid_by: str | None = None
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    gates: Mapping[str, str] | None = None
    allocation: AllocationRecord | None = None
    front: Front | None = None
    config: str | None = None

    @property
    def score(self) -> ScoreRecord:
        """What networks are scored by."""
        known = self.start.get("score") or {}
        return ScoreRecord(**{key: str(known[key]) for key in ("name", "unit") if key in known})

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def ranking(self) -> tuple[Participant, ...]:
        """The participants by contribution, the largest first; in their own order while that is not known."""
        return tuple(sorted(self.participants, key=lambda p: -(first_known(p.contribution, p.standalone) or 0.0)))

    @property
    def truncated(self) -> bool:
        """Whether only some participants are listed, because they are more than :data:`MAX_ROWS`."""
        return len(self.participants) > MAX_ROWS

    @property
    def listed(self) -> tuple[Participant, ...]:
        """The participants with a row in tables, by contribution: all, or the first and the last of too many."""
        return (*self.ranking[:ROWS_AT_EACH_END], *self.ranking[-ROWS_AT_EACH_END:]) if self.truncated else self.ranking

    @property
    def paid_by_accuracy(self) -> bool:
        """Whether the contribution that was paid for is the standalone accuracy, as it is by default."""
        return self.paid_by in (None, "standalone")

    @property
    def own_models(self) -> bool:
        """Whether participants received models of their own: those of one width then differ in accuracy."""
        received = {(p.width, p.received) for p in self.participants if p.received is not None}
        return len(received) > len({width for width, _ in received})

    @property
    def full_width(self) -> float | None:
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


def _widest(accuracy_by_width: Mapping[float, float]) -> float | None:
    return accuracy_by_width[max(accuracy_by_width)] if accuracy_by_width else None


def first_known(*values: float | None) -> float | None:
    """Return the first value that is known.

    Example:
        >>> first_known(None, 0.5, 1.0)
        0.5
    """
    return next((value for value in values if value is not None), None)
