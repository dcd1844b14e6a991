"""Partial participation: sampling of a round's participants, availability, drop-outs and step budgets."""

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
        completed: Participants that train and send an update, ascending.
        dropped: Chosen participants that drop out, or whose step budget is below one step, ascending.
    """

    completed: list[int]
    dropped: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Participation:
    """Sampling of a round's participants, and simulation of slow or unreliable ones.

    Time is counted in steps, not in seconds, so that a run is reproducible: a participant of speed 0.5 completes half
    of ``step_budget`` in a round.

    Args:
        sampling: ``uniform``: all are equally likely; ``samples``: drawn one after another without replacement, with
            probabilities proportional to their numbers of samples; ``poisson``: each independently with probability
            participants_per_round / participants, so that their number varies.
        availability: Probability that a participant is available in a round, in (0, 1]; one for all, or one each.
            Without ``participants_per_round`` all available ones take part.
        dropout: Probability that a chosen participant fails to report, in [0, 1).
        step_budget: Largest number of steps of a participant of speed 1 in a round, >= 1; local work is cut to it, and
            the partial update is averaged. null: no limit.
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
        """Check that the settings fit the run.

        Args:
            participants: Number of participants of the run.
            count: Number of participants of a round; None: all available ones.

        Raises:
            InputError: A list has another length, or ``count`` exceeds ``participants``.
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
        """Return the largest number of steps of a participant in a round; None: no limit.

        Example:
            >>> Participation(step_budget=10, speed=[1.0, 0.25]).steps(1)
            2
            >>> Participation(step_budget=100, speed=0.29).steps(0)
            29
        """
        if self.step_budget is None:
            return None
        speed = self.speed if isinstance(self.speed, float | int) else self.speed[index]
        # 0.29 * 100 is slightly less than 29 in floating point, so add a tolerance before rounding down.
        return int(self.step_budget * speed + 1e-9)

    def draw(self, samples: Sequence[int], count: int | None, *, seed: int, round: int) -> Cohort:
        """Draw a round's participants; the result is the same in every process, and after a resume.

        Args:
            samples: Number of samples of every participant.
            count: Number of participants to draw; if fewer are available, all of these. None: all available ones.
                With the sampling ``poisson`` it is the expected number if all are available.
            seed: The run's seed.
            round: Number of the round.

        Example:
            >>> Participation().draw([5, 5, 5], None, seed=0, round=1).completed
            [0, 1, 2]
            >>> len(Participation().draw([5] * 9, 4, seed=0, round=1).completed)
            4
        """
        generators = {
            key: np.random.default_rng(derive_seed(seed, key, round))
            for key in ("availability", "selection", "dropout")
        }
        chosen = np.flatnonzero(generators["availability"].random(len(samples)) < np.asarray(self.availability))
        if count is not None and self.sampling == "poisson":
            chosen = chosen[generators["selection"].random(len(samples))[chosen] < count / len(samples)]
        elif count is not None and count < len(chosen):
            sizes = np.asarray(samples)[chosen]
            odds = None if self.sampling == "uniform" else sizes / sizes.sum()
            chosen = np.sort(generators["selection"].choice(chosen, count, replace=False, p=odds))
        reports = generators["dropout"].random(len(samples))[chosen] >= self.dropout
        reports &= np.array([self.steps(index) != 0 for index in chosen.tolist()], dtype=bool)
        return Cohort(chosen[reports].tolist(), chosen[~reports].tolist())


def _listed(values: float | Sequence[float]) -> Sequence[float]:
    return [values] if isinstance(values, float | int) else values
