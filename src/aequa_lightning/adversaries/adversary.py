"""The base of participants that cheat, and what they can see."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from aequa_lightning.data import CollaborativeData
from aequa_lightning.errors import InputError


@dataclass(frozen=True)
class View:
    """What a participant knows when it sends its update.

    Attributes:
        round: Number of the round, from 1.
        generator: Source of its randomness, on the CPU; derived from the run's seed, the round and the participant.
        received: Parameters that it trained from, float32 of shape (P,); zero where it holds nothing.
        initial: The shared model's first parameters, float32 of shape (P,).
        aggregates: How far the shared model moved in each past round, oldest first; float32 of shape (P,) each.
    """

    round: int
    generator: Generator
    received: Tensor
    initial: Tensor
    aggregates: Sequence[Tensor]


class Adversary:
    """Base: participants that cheat in one way. This one is honest: override what the way of cheating needs.

    An adversary keeps nothing from call to call. What it does follows from its arguments and the view, so that a run
    gives the same result on any number of processes and after a resume.

    Args:
        participants: Numbers of the participants that cheat in this way, from 0, at least one.

    Attributes:
        uses_aggregates: Whether the run has to keep all past aggregates, rounds times P times 4 bytes, for ``send``.

    Raises:
        InputError: No participant is named, one is named twice, or a number is negative.
    """

    uses_aggregates: bool = True

    def __init__(self, participants: Sequence[int]) -> None:
        self.participants = tuple(participants)
        self._check(bool(self.participants), "participants", "must name at least one")
        self._check(min(self.participants) >= 0, "participants", "must be numbers from 0")
        self._check(len(set(self.participants)) == len(self.participants), "participants", "names one of them twice")

    def send(self, update: Tensor, view: View) -> Tensor:
        """Return what a participant sends instead of what it trained.

        Args:
            update: What it trained, float32 of shape (P,); not to be written to.
            view: What it knows.

        Returns:
            Floating point of shape (P,). What lies outside of the sub-network that the participant holds is dropped.
        """
        return update

    def samples(self, data: CollaborativeData, participant: int) -> tuple[Tensor, Tensor]:
        """Return the samples that a participant trains on, alone and in the rounds.

        Args:
            data: The data as they were before anybody cheated.
            participant: The participant's number.

        Returns:
            Inputs of shape (samples, ...) and classes of shape (samples,); not to be written to.
        """
        inputs, targets = data.participant(participant).tensors
        return inputs, targets

    def trains_as(self, participant: int) -> int:
        """Return the participant whose random numbers (order of samples, widths, dropout) this one trains with."""
        return participant

    def others(self) -> Sequence[int]:
        """Return the honest participants that this way of cheating needs."""
        return ()

    def describe(self) -> dict[str, Any]:
        """Return the name of the class and its settings as plain values, for the run's record."""
        settings = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        return {"name": type(self).__name__, **settings, "participants": list(self.participants)}

    def __repr__(self) -> str:
        """Return the call that makes it."""
        settings = ", ".join(f"{key}={value!r}" for key, value in self.describe().items() if key != "name")
        return f"{type(self).__name__}({settings})"

    def _check(self, holds: bool, key: str, rule: str) -> None:
        """Refuse a setting of which a rule does not hold."""
        if not holds:
            value = getattr(self, key)
            value = list(value) if isinstance(value, tuple) else value
            raise InputError(f"trainer.adversaries: {type(self).__name__}.{key}={value} {rule}.")


def check_adversaries(adversaries: Sequence[Adversary], participants: int | None = None) -> None:
    """Prove that each participant cheats in one way at most, and that those needed by others are honest.

    Args:
        adversaries: All of a run.
        participants: How many participants the run has; None: not known yet.

    Raises:
        InputError: A participant is unknown, cheats in two ways, or is needed honest and cheats.

    Example:
        >>> check_adversaries([Adversary([1]), Adversary([0])], participants=2)
    """
    cheats: dict[int, str] = {}
    for adversary in adversaries:
        name = type(adversary).__name__
        for number in (*adversary.participants, *adversary.others()):
            if participants is not None and number >= participants:
                raise InputError(
                    f"trainer.adversaries: {name} names participant {number}, but data.participants={participants} "
                    f"counts from 0 to {participants - 1}."
                )
        for number in adversary.participants:
            if number in cheats:
                raise InputError(
                    f"trainer.adversaries: participant {number} is both a {cheats[number]} and a {name}; name it once."
                )
            cheats[number] = name
    for adversary in adversaries:
        for number in adversary.others():
            if number in cheats:
                raise InputError(
                    f"trainer.adversaries: {type(adversary).__name__}.of={number} must be honest, but it is a "
                    f"{cheats[number]}; name another participant."
                )
