"""Who takes part in a round, who fails to report, and who runs out of time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from aequa_lightning.engine.processes.seeding import derive_seed
from aequa_lightning.errors import InputError


@dataclass(frozen=True)
class Cast:
    """The participants of one round, the same in every process.

    Attributes:
        reporting: Those who train and send an update, ascending.
        lost: Those who were chosen too, but drop out or have no time for a single step, ascending.
    """

    reporting: list[int]
    lost: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Participation:
    """How a round's participants are chosen, and what may go wrong with them.

    Time is counted in steps, not in seconds, so that a run can be repeated: in a round of ``steps_in_time`` a
    participant of speed 0.5 manages half as many.

    Args:
        choice: ``uniform``: all are equally likely; ``samples``: in proportion to their numbers of samples, those
            chosen one after another without going back; ``poisson``: each independently of the others with the
            probability participants_per_round / participants, so that their number varies.
        availability: Probability that a participant can be reached in a round, in (0, 1]; one for all, or one each.
            Without ``participants_per_round`` whoever can be reached takes part.
        dropout: Probability that a chosen participant fails to report, in [0, 1).
        steps_in_time: Steps that a participant of speed 1 manages before the round closes, >= 1; the others are cut
            short, and report what they have reached. null: there is no hurry.
        speed: Relative speed, > 0; one for all, or one each.

    Raises:
        InputError: A value is out of range.
    """

    choice: Literal["uniform", "samples", "poisson"] = "uniform"
    availability: float | Sequence[float] = 1.0
    dropout: float = 0.0
    steps_in_time: int | None = None
    speed: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        if not all(0 < value <= 1 for value in _listed(self.availability)):
            raise InputError(f"trainer.participation.availability={self.availability} must lie in (0, 1].")
        if not 0 <= self.dropout < 1:
            raise InputError(f"trainer.participation.dropout={self.dropout} must lie in [0, 1).")
        if self.steps_in_time is not None and self.steps_in_time < 1:
            raise InputError(f"trainer.participation.steps_in_time={self.steps_in_time} must be at least 1.")
        if not all(0 < value < float("inf") for value in _listed(self.speed)):
            raise InputError(f"trainer.participation.speed={self.speed} must be above 0.")

    def check(self, participants: int, count: int | None) -> None:
        """Prove that the settings fit the run.

        Args:
            participants: Number of all.
            count: How many are chosen for a round; None: all who can be reached.

        Raises:
            InputError: They do not.
        """
        for key in ("availability", "speed"):
            value = getattr(self, key)
            if not isinstance(value, float | int) and len(value) != participants:
                raise InputError(
                    f"trainer.participation.{key} has {len(value)} values for data.participants={participants}; "
                    "give one each, or one for all."
                )
        if count is not None and count > participants:
            raise InputError(f"trainer.participants_per_round={count} exceeds data.participants={participants}.")

    def steps(self, index: int) -> int | None:
        """Return how many steps a participant manages in time; None: as many as it likes.

        Example:
            >>> Participation(steps_in_time=10, speed=[1.0, 0.25]).steps(1)
            2
            >>> Participation(steps_in_time=100, speed=0.29).steps(0)
            29
        """
        if self.steps_in_time is None:
            return None
        speed = self.speed if isinstance(self.speed, float | int) else self.speed[index]
        # A hair more, for .29 of 100 is a hair less than 29.
        return int(self.steps_in_time * speed + 1e-9)

    def cast(self, samples: Sequence[int], count: int | None, *, seed: int, round: int) -> Cast:
        """Choose a round's participants: the same in every process, and after a resume.

        Args:
            samples: Number of samples of every participant.
            count: How many to choose; where fewer can be reached, these. None: all who can be reached. For the
                choice ``poisson`` it is the mean over rounds in which all can be reached.
            seed: The run's seed.
            round: Number of the round.

        Example:
            >>> Participation().cast([5, 5, 5], None, seed=0, round=1).reporting
            [0, 1, 2]
            >>> len(Participation().cast([5] * 9, 4, seed=0, round=1).reporting)
            4
        """
        lots = {
            key: np.random.default_rng(derive_seed(seed, key, round))
            for key in ("availability", "selection", "dropout")
        }
        chosen = np.flatnonzero(lots["availability"].random(len(samples)) < np.asarray(self.availability))
        if count is not None and self.choice == "poisson":
            chosen = chosen[lots["selection"].random(len(samples))[chosen] < count / len(samples)]
        elif count is not None and count < len(chosen):
            sizes = np.asarray(samples)[chosen]
            odds = None if self.choice == "uniform" else sizes / sizes.sum()
            chosen = np.sort(lots["selection"].choice(chosen, count, replace=False, p=odds))
        reports = lots["dropout"].random(len(samples))[chosen] >= self.dropout
        reports &= np.array([self.steps(index) != 0 for index in chosen.tolist()], dtype=bool)
        return Cast(chosen[reports].tolist(), chosen[~reports].tolist())


def _listed(values: float | Sequence[float]) -> Sequence[float]:
    return [values] if isinstance(values, float | int) else values
