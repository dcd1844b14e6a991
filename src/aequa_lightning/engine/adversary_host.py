"""Runs the adversaries of a run: replaces their samples and their updates."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aequa_lightning.adversaries import Adversary, View
from aequa_lightning.data import CollaborativeData
from aequa_lightning.engine.processes.seeding import derive_generator
from aequa_lightning.errors import InputError


def replace_samples(data: CollaborativeData, adversaries: Sequence[Adversary]) -> CollaborativeData:
    """Return data in which the adversaries' samples are replaced; the same object without adversaries.

    Args:
        data: The participants' data, set up.
        adversaries: All adversaries of the run.
    """
    if not adversaries:
        return data
    samples = {index: adversary.samples(data, index) for index, adversary in _by_participant(adversaries).items()}
    return data.with_samples(samples)


def _by_participant(adversaries: Sequence[Adversary]) -> dict[int, Adversary]:
    return {index: adversary for adversary in adversaries for index in adversary.participants}


class AdversaryHost:
    """Replaces the updates of adversaries.

    If an adversary uses past aggregates, each process and each checkpoint holds all of them: rounds x P x 4 bytes.

    Args:
        adversaries: All adversaries of the run.
        parameters: The shared model's first parameters, float32 of shape (P,).
        seed: The run's seed.

    Raises:
        InputError: An adversary sends a tensor of another shape, or no tensor.
    """

    def __init__(self, adversaries: Sequence[Adversary], parameters: Tensor, *, seed: int) -> None:
        self._adversaries, self._seed = adversaries, seed
        self._by_participant = _by_participant(adversaries)
        self._keeps_aggregates = any(adversary.uses_aggregates for adversary in adversaries)
        self._aggregates: list[Tensor] = []
        self._initial = self._last = parameters.clone() if adversaries else parameters
        for index in self._by_participant:
            self.send(index, torch.zeros_like(parameters), received=parameters, round=1)

    def is_adversary(self, index: int) -> bool:
        """Return whether a participant is an adversary."""
        return index in self._by_participant

    def trains_as(self, index: int) -> int:
        """Return the participant whose random numbers this one trains with."""
        return self._by_participant[index].trains_as(index) if index in self._by_participant else index

    def send(self, index: int, update: Tensor, *, received: Tensor, round: int) -> Tensor:
        """Return the update that a participant sends to the server.

        Args:
            index: The participant.
            update: The update that it trained, float32 of shape (P,).
            received: The parameters that it trained from, float32 of shape (P,).
            round: Number of the round.

        Returns:
            float32 of shape (P,); the update itself if the participant is honest.
        """
        if index not in self._by_participant:
            return update
        generator = derive_generator(self._seed, "adversary", round, index)
        view = View(round, generator, received, self._initial, self._aggregates)
        sent = self._by_participant[index].send(update, view)
        if not isinstance(sent, Tensor) or sent.shape != update.shape or not sent.is_floating_point():
            shape = f"{sent.dtype} of shape {tuple(sent.shape)}" if isinstance(sent, Tensor) else type(sent).__name__
            raise InputError(
                f"trainer.adversaries: {type(self._by_participant[index]).__name__}.send returned {shape}; it must "
                f"return floating-point numbers of the update's shape {tuple(update.shape)}."
            )
        return sent.to(update)

    def end_round(self, parameters: Tensor) -> None:
        """Store the round's aggregate, if an adversary uses it.

        Args:
            parameters: The shared model's parameters at the end of the round, float32 of shape (P,).
        """
        if self._keeps_aggregates:
            self._aggregates.append(parameters - self._last)
            self._last = parameters.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"adversaries": [repr(adversary) for adversary in self._adversaries], "aggregates": self._aggregates}

    def load_state_dict(self, state: Mapping[str, Any], parameters: Tensor) -> None:
        """Load what :meth:`state_dict` returned.

        Args:
            state: The state.
            parameters: The shared model's parameters at that time, float32 of shape (P,).

        Raises:
            InputError: The checkpoint is of a run with other adversaries.
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
