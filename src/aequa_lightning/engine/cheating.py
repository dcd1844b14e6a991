"""Adversaries at work in a run: the data they train on, what they send, and what they know for it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.adversaries import Adversary, View
from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.processes.seeding import derive_generator
from aequa_lightning.errors import InputError


def cheated_data(data: CollaborativeData, adversaries: Sequence[Adversary]) -> CollaborativeData:
    """Return the data with the samples that adversaries train on; the same object without adversaries.

    Args:
        data: Set up.
        adversaries: All of the run.
    """
    if not adversaries:
        return data
    cheats = {number: adversary for adversary in adversaries for number in adversary.participants}
    return data.with_samples({number: cheat.samples(data, number) for number, cheat in cheats.items()})


class Cheating:
    """Lets adversaries change what they send.

    All past aggregates are kept, rounds times P times 4 bytes in every process and checkpoint, if an adversary needs
    them.

    Args:
        adversaries: All of the run.
        parameters: The shared model's parameters as they are, float32 of shape (P,).
        seed: The run's seed.

    Raises:
        InputError: An adversary sends something of another size.
    """

    def __init__(self, adversaries: Sequence[Adversary], parameters: Tensor, *, seed: int) -> None:
        self._cheats = {number: adversary for adversary in adversaries for number in adversary.participants}
        self._adversaries, self._seed = adversaries, seed
        self._remembers = any(adversary.uses_aggregates for adversary in adversaries)
        self._aggregates: list[Tensor] = []
        self._initial = self._last = parameters.clone() if adversaries else parameters
        for number in self._cheats:
            self.send(number, torch.zeros_like(parameters), received=parameters, round=1)

    def involves(self, index: int) -> bool:
        """Tell whether a participant cheats."""
        return index in self._cheats

    def trains_as(self, index: int) -> int:
        """Return the participant whose random numbers a participant trains with."""
        return self._cheats[index].trains_as(index) if index in self._cheats else index

    def send(self, index: int, update: Tensor, *, received: Tensor, round: int) -> Tensor:
        """Return what a participant sends.

        Args:
            index: The participant.
            update: What it trained, float32 of shape (P,).
            received: What it trained from, float32 of shape (P,).
            round: Number of the round.

        Returns:
            float32 of shape (P,); the update itself if the participant is honest.
        """
        if index not in self._cheats:
            return update
        generator = derive_generator(self._seed, "adversary", round, index)
        view = View(round, generator, received, self._initial, self._aggregates)
        sent = self._cheats[index].send(update, view)
        if not isinstance(sent, Tensor) or sent.shape != update.shape or not sent.is_floating_point():
            shape = f"{sent.dtype} of shape {tuple(sent.shape)}" if isinstance(sent, Tensor) else type(sent).__name__
            raise InputError(
                f"trainer.adversaries: {type(self._cheats[index]).__name__}.send returned {shape}; it must return "
                f"floating-point numbers of the update's shape {tuple(update.shape)}."
            )
        return sent.to(update)

    def end_round(self, parameters: Tensor) -> None:
        """Note how far the shared model has moved.

        Args:
            parameters: Those at the end of the round, float32 of shape (P,).
        """
        if self._remembers:
            self._aggregates.append(parameters - self._last)
            self._last = parameters.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"adversaries": [repr(adversary) for adversary in self._adversaries], "aggregates": self._aggregates}

    def load_state_dict(self, state: Mapping[str, Any], parameters: Tensor) -> None:
        """Take back what :meth:`state_dict` returned.

        Args:
            state: What was returned.
            parameters: The shared model's parameters at that time, float32 of shape (P,).

        Raises:
            InputError: The adversaries were others.
        """
        now = [repr(adversary) for adversary in self._adversaries]
        if state["adversaries"] != now:
            raise InputError(
                f"ckpt_path was saved with trainer.adversaries [{', '.join(state['adversaries'])}], now they are "
                f"[{', '.join(now)}]; use the run's own config.yaml, or begin a new run."
            )
        self._aggregates = [aggregate.to(parameters) for aggregate in state["aggregates"]]
        if self._adversaries:
            self._last = parameters.clone()
