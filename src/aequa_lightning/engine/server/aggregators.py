"""Aggregators: weights of participants, and server optimizers (FedAvg, FedAvgM, FedAdagrad, FedAdam, FedYogi)."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, Optimizer
from typing_extensions import override

from aequa_lightning.errors import InputError


class Aggregator(ABC):
    """Base class: weights of participants, and the optimizer of the server.

    Attributes:
        weighting: ``samples``: proportional to the participants' numbers of samples; ``uniform``: all equal.
    """

    weighting: Literal["samples", "uniform"] = "samples"

    def weights(self, samples: list[int]) -> list[float]:
        """Return the participants' weights, which add up to 1.

        Args:
            samples: Number of training samples of each participant of the round.

        Example:
            >>> FedAvg().weights([1, 3]), FedAvg("uniform").weights([1, 3])
            ([0.25, 0.75], [0.5, 0.5])
        """
        counts = samples if self.weighting == "samples" else [1] * len(samples)
        return [count / sum(counts) for count in counts]

    @abstractmethod
    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return the server's optimizer, whose gradient is minus the mean update (Reddi et al., ICLR 2021)."""


@dataclass(frozen=True)
class FedAvg(Aggregator):
    """Federated averaging (McMahan et al. 2017): the server moves by the weighted mean of the updates.

    Args:
        weighting: ``samples``: proportional to the participants' numbers of samples; ``uniform``: all equal.
    """

    weighting: Literal["samples", "uniform"] = "samples"

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return SGD with learning rate 1, which adds the mean update."""
        return SGD(parameters, lr=1.0, foreach=False)


@dataclass(frozen=True)
class FedAvgM(Aggregator):
    """Averaging with momentum on the server (Hsu et al. 2019).

    Args:
        lr: Server's learning rate, > 0; 1 adds the whole mean update.
        momentum: Momentum coefficient, in [0, 1).
        weighting: How participants count; see :class:`FedAvg`.
    """

    lr: float = 1.0
    momentum: float = 0.9
    weighting: Literal["samples", "uniform"] = "samples"

    def __post_init__(self) -> None:
        _check_positive("lr", self.lr)
        _check_share("momentum", self.momentum)

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return SGD with momentum."""
        return SGD(parameters, lr=self.lr, momentum=self.momentum, foreach=False)


@dataclass(frozen=True)
class FedAdagrad(Aggregator):
    """Adagrad on the server (Reddi et al., ICLR 2021, algorithm 2).

    Args:
        lr: Server's learning rate, > 0.
        tau: Added to the root of the sum of squares, > 0; larger values make it less adaptive.
        weighting: How participants count; see :class:`FedAvg`.
    """

    lr: float = 0.01
    tau: float = 1e-3
    weighting: Literal["samples", "uniform"] = "samples"

    def __post_init__(self) -> None:
        _check_positive("lr", self.lr)
        _check_positive("tau", self.tau)

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return Adagrad."""
        return Adagrad(parameters, lr=self.lr, eps=self.tau, foreach=False)


@dataclass(frozen=True)
class FedAdam(Aggregator):
    """Adam on the server (Reddi et al., ICLR 2021, algorithm 2), with the bias correction that the source leaves out.

    Args:
        lr: Server's learning rate, > 0.
        beta1: Decay of the mean of past mean updates, in [0, 1).
        beta2: Decay of the mean of their squares, in [0, 1).
        tau: Added to the root of the mean square, > 0; larger values make it less adaptive.
        weighting: How participants count; see :class:`FedAvg`.
    """

    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    weighting: Literal["samples", "uniform"] = "samples"

    def __post_init__(self) -> None:
        _check_positive("lr", self.lr)
        _check_positive("tau", self.tau)
        _check_share("beta1", self.beta1)
        _check_share("beta2", self.beta2)

    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return Adam."""
        return Adam(parameters, lr=self.lr, betas=(self.beta1, self.beta2), eps=self.tau, foreach=False)


@dataclass(frozen=True)
class FedYogi(FedAdam):
    """Yogi on the server (Zaheer et al. 2018; Reddi et al., ICLR 2021, algorithm 2): squares change additively.

    Args:
        lr: Server's learning rate, > 0.
        beta1: Decay of the mean of past mean updates, in [0, 1).
        beta2: Decay of the estimate of their squares, in [0, 1).
        tau: Added to the root of the estimate, > 0; its square is the initial estimate.
        weighting: How participants count; see :class:`FedAvg`.
    """

    @override
    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return Yogi."""
        return Yogi(parameters, lr=self.lr, betas=(self.beta1, self.beta2), tau=self.tau)


class Yogi(Optimizer):
    """Yogi without bias correction, as in Reddi et al., ICLR 2021, algorithm 2; torch has no Yogi.

    Args:
        parameters: Parameters to optimize.
        lr: Learning rate.
        betas: Decays of the first and the second moment.
        tau: Added to the root of the second moment; its square is the initial second moment.
    """

    def __init__(self, parameters: list[nn.Parameter], *, lr: float, betas: tuple[float, float], tau: float) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "tau": tau})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step. ``closure`` exists for the interface of torch and is ignored."""
        for group in self.param_groups:
            (first_decay, second_decay), tau = group["betas"], group["tau"]
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                    state["square"] = torch.full_like(parameter, tau**2)
                squares = parameter.grad**2
                state["mean"].lerp_(parameter.grad, 1 - first_decay)
                state["square"] -= (1 - second_decay) * squares * torch.sign(state["square"] - squares)
                parameter -= group["lr"] * state["mean"] / (state["square"].sqrt() + tau)


def _check_positive(key: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise InputError(f"trainer.aggregator.{key}={value} must be above 0 and finite.")


def _check_share(key: str, value: float) -> None:
    if not 0 <= value < 1:
        raise InputError(f"trainer.aggregator.{key}={value} must lie in [0, 1).")
