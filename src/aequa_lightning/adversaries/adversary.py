"""Adversary, the base class of participants that cheat, and View, the information that they have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from aequa_lightning.data import CollaborativeData
from aequa_lightning.errors import InputError
from aequa_lightning.runtime.arguments import RecordsArguments


@dataclass(frozen=True)
class View:
    """The information of a participant that sends its update.

    Attributes:
        round: Number of the round, from 1.
        generator: Source of its randomness, on the CPU; derived from the run's seed, the round and the participant.
        received: Parameters that it trained from, float32 of shape (P,); zero outside of its sub-network.
        initial: The shared model's first parameters, float32 of shape (P,).
        aggregates: How far the shared model moved in each past round, oldest first; float32 of shape (P,) each.
    """

    round: int
    generator: Generator
    received: Tensor
    initial: Tensor
    aggregates: Sequence[Tensor]


class Adversary(RecordsArguments):
    """Base class: participants that cheat in one way. It is honest itself; subclasses override some of its methods.

    An adversary has no state between calls. Its behaviour is a function of its arguments and the view, so that a run
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
        """Return the update that a participant sends.

        Args:
            update: The update that it trained, float32 of shape (P,); read-only.
            view: The information that it has.

        Returns:
            Floating point of shape (P,). Entries outside of the participant's sub-network are dropped.
        """
        return update

    def samples(self, data: CollaborativeData, participant: int) -> tuple[Tensor, Tensor]:
        """Return the samples that a participant trains on, alone and in the rounds.

        Args:
            data: The data before any adversary changed them.
            participant: The participant's number.

        Returns:
            Inputs of shape (samples, ...) and classes of shape (samples,); read-only.
        """
        inputs, targets = data.participant(participant).tensors
        return inputs, targets

    def trains_as(self, participant: int) -> int:
        """Return the participant whose random numbers (order of samples, widths, dropout) this one trains with."""
        return participant

    def others(self) -> Sequence[int]:
        """Return the honest participants that the adversaries copy from."""
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
        """Raise an InputError unless a rule holds for a setting."""
        if not holds:
            value = getattr(self, key)
            value = list(value) if isinstance(value, tuple) else value
            raise InputError(f"trainer.adversaries: {type(self).__name__}.{key}={value} {rule}.")


def check_adversaries(adversaries: Sequence[Adversary], participants: int | None = None) -> None:
    """Check that each participant cheats in one way at most, and that participants whom adversaries copy are honest.

    Args:
        adversaries: All adversaries of a run.
        participants: Number of participants; None: not known yet.

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
