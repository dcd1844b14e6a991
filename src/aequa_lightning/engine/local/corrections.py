"""Local corrections: what is added to a participant's gradients before each of its steps, against drifting apart."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from typing_extensions import override

from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.engine.server.exact_sum import ExactSum
from aequa_lightning.errors import InputError


class GradientCorrection(Protocol):
    """What local training asks of a correction."""

    def __call__(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add to the parameters' gradients, in place; called once before each step, whatever the number of widths."""


class Corrector:
    """A correction at work in one process, for one participant after another. This base corrects nothing."""

    def begin(self, received: Tensor, kept: Tensor | None) -> None:
        """A participant is about to train.

        Args:
            received: What it starts from, of shape (P,).
            kept: What :meth:`end` returned when it trained last; None the first time.
        """

    def __call__(self, parameters: Sequence[nn.Parameter]) -> None:
        """Correct the gradients; see :class:`GradientCorrection`."""

    def end(self) -> Tensor | None:
        """The participant has trained: return what it keeps until the next time, of shape (P,), or None."""
        return None

    def accept(self) -> None:
        """The participant's update enters the average."""

    def reduce(self, topology: Topology) -> None:
        """The round ends: bring the server's part up to date; a collective operation over the groups."""

    def state_dict(self) -> dict[str, Any]:
        """Return the server's part."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""


class LocalCorrection(ABC):
    """Base of the corrections that ``trainer.correction`` offers.

    Attributes:
        remembers: Whether each participant keeps something between its rounds.
    """

    remembers: bool = False

    @abstractmethod
    def build(self, parameters: Tensor, participants: int) -> Corrector:
        """Return the correction at work.

        Args:
            parameters: Any flat vector of the model's size and device.
            participants: Number of participants of the run.
        """


@dataclass(frozen=True)
class NoCorrection(LocalCorrection):
    """Gradients as they are."""

    def build(self, parameters: Tensor, participants: int) -> Corrector:
        """Return what corrects nothing."""
        return Corrector()


@dataclass(frozen=True)
class FedProx(LocalCorrection):
    """A pull back to where the participant started: the loss gains mu/2 |w - w_0|^2 (Li et al., MLSys 2020).

    Args:
        mu: Strength of the pull, > 0.

    Raises:
        InputError: The strength is not positive.
    """

    mu: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.mu < math.inf:
            raise InputError(
                f"trainer.correction.mu={self.mu} must be above 0 and finite; leave trainer.correction out for none."
            )

    def build(self, parameters: Tensor, participants: int) -> Corrector:
        """Return the pull."""
        return _Pull(self.mu)


@dataclass(frozen=True)
class Scaffold(LocalCorrection):
    """Control variates (SCAFFOLD, Karimireddy et al., ICML 2020): every step is moved by c - c_i.

    A participant's variate c_i is the mean of its uncorrected gradients when it trained last, the server's c the mean
    over all participants. With plain SGD this is the source's option II; here it holds for any local optimizer.
    """

    remembers = True

    def build(self, parameters: Tensor, participants: int) -> Corrector:
        """Return the variates, all zero."""
        return _ControlVariates(parameters, participants)


class _Pull(Corrector):
    def __init__(self, strength: float) -> None:
        self._strength = strength
        self._received = torch.empty(0)

    @override
    def begin(self, received: Tensor, kept: Tensor | None) -> None:
        self._received = received

    @override
    def __call__(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter, start in _with_parts(parameters, self._received):
            parameter.grad.add_(parameter.detach() - start, alpha=self._strength)


class _ControlVariates(Corrector):
    def __init__(self, parameters: Tensor, participants: int) -> None:
        self._server = torch.zeros_like(parameters)
        self._share = 1 / participants
        self._change = ExactSum(parameters.numel(), parameters.device)
        self._own, self._mean, self._offset = (torch.zeros_like(parameters) for _ in range(3))
        self._steps = 0

    @override
    def begin(self, received: Tensor, kept: Tensor | None) -> None:
        if kept is None:
            self._own.zero_()
        else:
            self._own.copy_(kept)
        torch.sub(self._server, self._own, out=self._offset)
        self._mean.zero_()
        self._steps = 0

    @override
    def __call__(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter, total in _with_parts(parameters, self._mean):
            total += parameter.grad
        for parameter, offset in _with_parts(parameters, self._offset):
            parameter.grad += offset
        self._steps += 1

    @override
    def end(self) -> Tensor:
        self._mean /= max(self._steps, 1)
        return self._mean

    @override
    def accept(self) -> None:
        self._change.add(self._mean - self._own, self._share)

    @override
    def reduce(self, topology: Topology) -> None:
        topology.sum_over_groups(self._change.total)
        self._server += self._change.total.to(self._server.dtype)
        self._change.reset()

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"server": self._server}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if "server" in state:
            self._server.copy_(state["server"])


def _with_parts(parameters: Sequence[nn.Parameter], vector: Tensor) -> list[tuple[Any, Tensor]]:
    """Return every parameter that has a gradient with its part of a flat vector."""
    parts = vector.split([parameter.numel() for parameter in parameters])
    return [
        (parameter, part.view(parameter.shape))
        for parameter, part in zip(parameters, parts, strict=True)
        if parameter.grad is not None
    ]
