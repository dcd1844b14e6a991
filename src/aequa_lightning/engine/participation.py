"""Who takes part in a round, who fails to report, and who runs out of time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from aequa_lightning.engine.processes.seeding import derive_seed
from aequa_lightning.errors import InputError


@dataclass(frozen=True)
class Cohort:
    """The participants of one round, the same in every process.

    Attributes:
        completed: Those who train and send an update, ascending.
        dropped: Those who were chosen too, but drop out or have no time for a single step, ascending.
    """

    completed: list[int]
    dropped: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Participation:
    """How a round's participants are chosen, and what may go wrong with them.

    Time is counted in steps, not in seconds, so that a run can be repeated: in a round of ``step_budget`` a
    participant of speed 0.5 manages half as many.

    Args:
        sampling: ``uniform``: all are equally likely; ``samples``: in proportion to their numbers of samples, those
            chosen one after another without going back; ``poisson``: each independently of the others with the
            probability participants_per_round / participants, so that their number varies.
        availability: Probability that a participant can be reached in a round, in (0, 1]; one for all, or one each.
            Without ``participants_per_round`` whoever can be reached takes part.
        dropout: Probability that a chosen participant fails to report, in [0, 1).
        step_budget: Steps that a participant of speed 1 manages before the round closes, >= 1; the others are cut
            short, and report what they have reached. null: there is no hurry.
        speed: Relative speed, > 0; one for all, or one each.

    Raises:
        InputError: A value is out of range.
    """

    sampling: Literal["uniform", "samples", "poisson"] = "uniform"
    availability: float | Sequence[float] = 1.0
    dropout: float = 0.0
    step_budget: int | None = None
    speed: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        if not all(0 < value <= 1 for value in _listed(self.availability)):
            raise InputError(f"trainer.participation.availability={self.availability} must lie in (0, 1].")
        if not 0 <= self.dropout < 1:
            raise InputError(f"trainer.participation.dropout={self.dropout} must lie in [0, 1).")
        if self.step_budget is not None and self.step_budget < 1:
            raise InputError(f"trainer.participation.step_budget={self.step_budget} must be at least 1.")
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
            >>> Participation(step_budget=10, speed=[1.0, 0.25]).steps(1)
            2
            >>> Participation(step_budget=100, speed=0.29).steps(0)
            29
        """
        if self.step_budget is None:
            return None
        speed = self.speed if isinstance(self.speed, float | int) else self.speed[index]
        # A hair more, for .29 of 100 is a hair less than 29.
        return int(self.step_budget * speed + 1e-9)

    def draw(self, samples: Sequence[int], count: int | None, *, seed: int, round: int) -> Cohort:
        """Choose a round's participants: the same in every process, and after a resume.

        Args:
            samples: Number of samples of every participant.
            count: How many to choose; where fewer can be reached, these. None: all who can be reached. For the
                sampling ``poisson`` it is the mean over rounds in which all can be reached.
            seed: The run's seed.
            round: Number of the round.

        Example:
            >>> Participation().draw([5, 5, 5], None, seed=0, round=1).completed
            [0, 1, 2]
            >>> len(Participation().draw([5] * 9, 4, seed=0, round=1).completed)
            4
        """
        lots = {
            key: np.random.default_rng(derive_seed(seed, key, round))
            for key in ("availability", "selection", "dropout")
        }
        chosen = np.flatnonzero(lots["availability"].random(len(samples)) < np.asarray(self.availability))
        if count is not None and self.sampling == "poisson":
            chosen = chosen[lots["selection"].random(len(samples))[chosen] < count / len(samples)]
        elif count is not None and count < len(chosen):
            sizes = np.asarray(samples)[chosen]
            odds = None if self.sampling == "uniform" else sizes / sizes.sum()
            chosen = np.sort(lots["selection"].choice(chosen, count, replace=False, p=odds))
        reports = lots["dropout"].random(len(samples))[chosen] >= self.dropout
        reports &= np.array([self.steps(index) != 0 for index in chosen.tolist()], dtype=bool)
        return Cohort(chosen[reports].tolist(), chosen[~reports].tolist())


def _listed(values: float | Sequence[float]) -> Sequence[float]:
    return [values] if isinstance(values, float | int) else values
