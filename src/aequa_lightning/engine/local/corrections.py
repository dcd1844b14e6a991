"""Corrections of local gradients against client drift: FedProx and SCAFFOLD."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.engine.server.exact_sum import ExactSum
from aequa_lightning.errors import InputError


class Corrector:
    """Corrects the gradients of one participant after another, in one process. This base class corrects nothing."""

    def start(self, received: Tensor, kept: Tensor | None) -> None:
        """Prepare for a participant's training.

        Args:
            received: The parameters that it starts from, of shape (P,).
            kept: The value of :meth:`finish` when it last trained; None the first time.
        """

    def __call__(self, parameters: Sequence[nn.Parameter]) -> None:
        """Correct the parameters' gradients in place; called once before each step, whatever the number of widths."""

    def finish(self) -> Tensor | None:
        """Return what the participant keeps until it trains again, of shape (P,); None: nothing."""
        return None

    def commit(self) -> None:
        """Take the participant that has just trained into account; called if its update is valid."""

    def end_round(self, topology: Topology) -> None:
        """Update the server's state; a collective operation over the groups."""

    def state_dict(self) -> dict[str, Any]:
        """Return the server's state for a checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""


class LocalCorrection(ABC):
    """Base class of the options of ``trainer.correction``.

    Attributes:
        keeps_state: Whether each participant keeps state between its rounds.
    """

    keeps_state: bool = False

    @abstractmethod
    def build(self, parameters: Tensor, participants: int) -> Corrector:
        """Return the corrector of a run.

        Args:
            parameters: Any flat vector with the size, type and device of the model's parameters.
            participants: Number of participants of the run.
        """


@dataclass(frozen=True)
class NoCorrection(LocalCorrection):
    """Plain local training without a correction."""

    def build(self, parameters: Tensor, participants: int) -> Corrector:
        """Return a corrector that changes no gradients."""
        return Corrector()


@dataclass(frozen=True)
class FedProx(LocalCorrection):
    """Proximal term: adds mu/2 |w - w_0|^2 to the loss, with the received parameters w_0 (Li et al., MLSys 2020).

    Args:
        mu: Weight of the proximal term, > 0.

    Raises:
        InputError: ``mu`` is not positive and finite.
    """

    mu: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.mu < math.inf:
            raise InputError(
                f"trainer.correction.mu={self.mu} must be above 0 and finite; leave trainer.correction out for none."
            )

    def build(self, parameters: Tensor, participants: int) -> Corrector:
        """Return a corrector that adds the gradient of the proximal term."""
        return _ProximalTerm(self.mu)


@dataclass(frozen=True)
class Scaffold(LocalCorrection):
    """Control variates (SCAFFOLD, Karimireddy et al., ICML 2020): adds c - c_i to every gradient.

    A participant's variate c_i is the mean of its uncorrected gradients in its previous training, the server's c the
    mean of c_i over all participants. With plain SGD this equals option II of the source; this form works with any
    local optimizer.
    """

    keeps_state = True

    def build(self, parameters: Tensor, participants: int) -> Corrector:
        """Return a corrector with control variates of zero."""
        return _ControlVariates(parameters, participants)


class _ProximalTerm(Corrector):
    """Adds mu (w - w_0), the gradient of FedProx's proximal term."""

    def __init__(self, mu: float) -> None:
        self._mu = mu
        self._received = torch.empty(0)

    @override
    def start(self, received: Tensor, kept: Tensor | None) -> None:
        self._received = received

    @override
    def __call__(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter, start in _gradients_with(parameters, self._received):
            parameter.grad.add_(parameter.detach() - start, alpha=self._mu)


class _ControlVariates(Corrector):
    """Adds SCAFFOLD's c - c_i, and accumulates the changes of c_i for the server's c."""

    def __init__(self, parameters: Tensor, participants: int) -> None:
        self._server = torch.zeros_like(parameters)
        self._share = 1 / participants
        self._change = ExactSum(parameters.numel(), parameters.device)
        self._own, self._mean, self._offset = (torch.zeros_like(parameters) for _ in range(3))
        self._steps = 0

    @override
    def start(self, received: Tensor, kept: Tensor | None) -> None:
        if kept is None:
            self._own.zero_()
        else:
            self._own.copy_(kept)
        torch.sub(self._server, self._own, out=self._offset)
        self._mean.zero_()
        self._steps = 0

    @override
    def __call__(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter, total in _gradients_with(parameters, self._mean):
            total += parameter.grad
        for parameter, offset in _gradients_with(parameters, self._offset):
            parameter.grad += offset
        self._steps += 1

    @override
    def finish(self) -> Tensor:
        self._mean /= max(self._steps, 1)
        return self._mean

    @override
    def commit(self) -> None:
        self._change.add(self._mean - self._own, self._share)

    @override
    def end_round(self, topology: Topology) -> None:
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


def _gradients_with(parameters: Sequence[nn.Parameter], vector: Tensor) -> list[tuple[Any, Tensor]]:
    """Pair each parameter that has a gradient with its part of a flat vector."""
    parts = vector.split([parameter.numel() for parameter in parameters])
    return [
        (parameter, part.view(parameter.shape))
        for parameter, part in zip(parameters, parts, strict=True)
        if parameter.grad is not None
    ]
