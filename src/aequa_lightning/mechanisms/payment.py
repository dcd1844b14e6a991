"""Payments: how a participant's share of the reward becomes a model of its own."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aequa_lightning.contributions.cosine import earlier_weights, shortening


@dataclass(frozen=True)
class RoundContext:
    """The participants of a round, the same on all processes; N is the number of accepted updates.

    Attributes:
        round: Number of the round, from 1.
        seeds: One for each of them and this round, for whatever is drawn for it, (N,).
        weights: Their weights in the average, float64 of shape (N,), summing to 1.
        contributions: By the mechanism's measure, negative ones as 0, float64 of shape (N,).
        shares: What each deserves, in [0, 1], float64 of shape (N,).
        norms: Euclidean length of each whole update, float64 of shape (N,).
        previous: Contributions as they stood before the round, negative ones as they are, float64 of shape (N,); zeros
            before anything was measured.
        cutoffs: What :meth:`Payment.cutoffs` returned, of shape (N,); None for payments that need no view of the whole
            step.
        is_last: Whether no round follows.
    """

    round: int
    seeds: Sequence[int]
    weights: Tensor
    contributions: Tensor
    shares: Tensor
    norms: Tensor
    previous: Tensor
    cutoffs: Tensor | None = None
    is_last: bool = False

    def weights_before(self) -> Tensor:
        """Return the contributions before the round as weights that sum to 1; the round's weights in the first one."""
        return earlier_weights(self.previous, self.weights)


@dataclass(frozen=True)
class Layer:
    """One parameter of the network in a round, flat, for the participants of a :class:`RoundContext`.

    Attributes:
        name: Of the parameter.
        place: Position counted from the last layer (module) of the network, which is 0.
        shape: Of the parameter.
        models: What each started the round from, (N, size).
        updates: What each changed, (N, size).
        server: The server's value after averaging, (size,).
        held: Which entries each is sent, bool of shape (N, size), where the payment is in sub-models; else None.
    """

    name: str
    place: int
    shape: tuple[int, ...]
    models: Tensor
    updates: Tensor
    server: Tensor
    held: Tensor | None = None


class Payment(ABC):
    """Delivers to every participant the model from which it starts the next round; the last one is its reward.

    Attributes:
        final_epochs: Passes over its own data by which each participant adapts its reward in the end.
        ranks_whole_step: Whether entries are ranked over all layers. Then :meth:`step` is called for every layer and
            :meth:`cutoffs` once, before :meth:`deliver`.
    """

    final_epochs: int = 0
    ranks_whole_step: bool = False

    @property
    def differs_in_last_round(self) -> bool:
        """Whether the last round is paid in another way, so that it must be known before it begins."""
        return self.final_epochs > 0

    def step(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return a layer of the step whose entries are ranked, (size,)."""
        raise NotImplementedError

    def cutoffs(self, step: Tensor, context: RoundContext) -> Tensor:
        """Return for each participant the smallest magnitude of an entry that it receives, (N,).

        Args:
            step: All layers of :meth:`step`, (P,).
            context: The round.
        """
        raise NotImplementedError

    @abstractmethod
    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return a layer of everybody's next model, (N, size); called once for each parameter, in all processes."""


@dataclass(frozen=True)
class OwnModel(Payment):
    """Nobody receives anything: each goes on with what it trained."""

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return each participant's trained model."""
        return layer.models + layer.updates


@dataclass(frozen=True)
class ServerModel(Payment):
    """Everybody receives the average.

    Args:
        final_epochs: Passes over its own data by which each participant adapts it in the end.
    """

    final_epochs: int = 0

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return the server's model for all."""
        return layer.server.expand_as(layer.models)


@dataclass(frozen=True)
class LastLayers(Payment):
    """Only the last layers are averaged; the others stay each participant's own.

    Args:
        layers: How many are shared, counted from the output.
    """

    layers: int = 3

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return the server's layer if it is among the last, else each participant's own."""
        shared = layer.place < self.layers
        return layer.server.expand_as(layer.models) if shared else layer.models + layer.updates


@dataclass(frozen=True)
class Masking(Payment):
    """Each takes the step of the aggregate, of which it receives its share of the entries of each layer, largest first.

    Args:
        length: Length to which every update is scaled before it is averaged, > 0; None: the updates as they are.
        weighing: ``weights``: by the weights of the average; ``contributions``: by the contributions before the round,
            in the first round by the weights.
        after: Number of first rounds whose updates are not delivered: everybody starts again from what it had, >= 0.
        withholds_one: Whether the smallest entry of each layer is withheld from everybody; see :func:`largest`.
    """

    length: float | None = None
    weighing: Literal["weights", "contributions"] = "weights"
    after: int = 0
    withholds_one: bool = False

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return what each started from, moved by its part of the aggregate."""
        if context.round <= self.after:
            return layer.models
        factors = context.weights if self.weighing == "weights" else context.weights_before()
        if self.length is not None:
            factors = factors * self.length / context.norms.clamp(min=1e-12)
        aggregate = factors.to(layer.updates) @ layer.updates
        return layer.models + largest(aggregate, context.shares.tolist(), withhold_one=self.withholds_one)


@dataclass(frozen=True)
class OwnAndMasked(Payment):
    """Each keeps its own step and adds its share of the entries of each layer of the aggregate, largest first.

    Steps longer than a length are shortened to it before they are kept and averaged. They are averaged by the
    contributions before the round, in the first round by the weights of the average.

    Args:
        length: The length, > 0.
        withholds_one: Whether the smallest entry of each layer is withheld from everybody; see :func:`largest`.
    """

    length: float = 0.5
    withholds_one: bool = False

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return what each started from, moved by its own step and by its part of the aggregate."""
        shortened = layer.updates * shortening(context.norms, self.length).to(layer.updates)[:, None]
        aggregate = context.weights_before().to(layer.updates) @ shortened
        masked = largest(aggregate, context.shares.tolist(), withhold_one=self.withholds_one)
        return layer.models + shortened + masked


@dataclass(frozen=True)
class Downloading(Payment):
    """Each keeps its own step and downloads the largest entries of the aggregate, less its own part in it.

    The number of downloaded entries is the participant's share, times its weight in the average relative to the
    largest, times the number of parameters. Whoever has no share is neither averaged nor sent anything: it trains on
    alone.

    Args:
        clip: Magnitude to which every entry of an update is cut, > 0.
        aggregate: ``mean``: by the weights of the average, and a participant takes back the part of its own step that
            corresponds to its relative weight; ``sum``: all count 1, and it takes back all of it.
    """

    clip: float = 0.01
    aggregate: Literal["mean", "sum"] = "mean"

    ranks_whole_step = True

    def step(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return the sum of the cut updates of those who have a share."""
        weights = context.weights if self.aggregate == "mean" else torch.ones_like(context.weights)
        weights = torch.where(context.shares > 0, weights, 0.0)
        return weights.to(layer.updates) @ layer.updates.clamp(-self.clip, self.clip)

    def cutoffs(self, step: Tensor, context: RoundContext) -> Tensor:
        """Return the magnitude of the last entry that each downloads; infinity where it downloads none."""
        ordered = step.abs().sort(descending=True).values
        counts = (context.shares * context.weights / context.weights.max() * len(step) + 1e-9).long()
        return torch.stack(
            [ordered[count - 1] if count else torch.full_like(ordered[0], torch.inf) for count in counts]
        )

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return what each started from, moved by its own step and by what it downloads from others."""
        assert context.cutoffs is not None
        step, own = self.step(layer, context), layer.updates.clamp(-self.clip, self.clip)
        downloaded = torch.where(step.abs() >= context.cutoffs[:, None], step, 0.0)
        ratios = context.weights / context.weights.max()
        taken_back = ratios if self.aggregate == "mean" else torch.ones_like(ratios)
        taken_back = torch.where(context.shares > 0, taken_back, 0.0).to(own)[:, None]
        return layer.models + (1 - taken_back) * own + downloaded


@dataclass(frozen=True)
class SubsetAveraging(Payment):
    """Each averages its own update with those of some others, drawn at random, as many as its share says.

    Args:
        kappa: 0: in proportion to the share; towards 1: all others for everybody, in [0, 1).
        reset: Probability that a participant starts the next round from the server's model instead, in [0, 1]; the
            reward after the last round is never the server's model.
    """

    kappa: float = 0.0
    reset: float = 0.0

    @property
    def differs_in_last_round(self) -> bool:
        """Whether anybody may start from the server's model, which is never a reward."""
        return self.reset > 0

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return what each started from, moved by the mean of its subset, or the server's model."""
        mixing, reset = subsets(context, kappa=self.kappa, reset=0.0 if context.is_last else self.reset)
        moved = layer.models + torch.from_numpy(mixing).to(layer.updates) @ layer.updates
        return torch.where(torch.from_numpy(reset)[:, None].to(moved.device), layer.server, moved)


@dataclass(frozen=True)
class Ranked(Payment):
    """Each takes the mean update of all who are ranked no higher than itself.

    Of equal contributions the later one ranks higher, as in the authors' code.
    """

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return what each started from, moved by the mean of those ranked at or below it."""
        ranks = context.contributions.argsort(stable=True).argsort()
        below = (ranks[None] <= ranks[:, None]).double()
        mixing = below / below.sum(dim=1, keepdim=True)
        return layer.models + mixing.to(layer.updates) @ layer.updates


@dataclass(frozen=True)
class Mixing(Payment):
    """Each keeps its trained model and moves towards the average by contribution, as far as its share says."""

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return ``(1 - share) own + share average``."""
        own = layer.models + layer.updates
        average = normalised(context.contributions).to(own) @ own
        shares = context.shares.to(own)[:, None]
        return (1 - shares) * own + shares * average


@dataclass(frozen=True)
class Neurons(Payment):
    """Each receives the server's values of part of every layer's neurons and keeps its own of the others.

    The part holds the most important neurons, those whose weights are longest.
    """

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return the server's rows where a neuron is received, each participant's own elsewhere."""
        own = layer.models + layer.updates
        # All participants must receive the whole last layer, or classes would be missing rather than worse.
        if layer.place == 0:
            return layer.server.expand_as(own)
        rows = layer.server.view(layer.shape[0], -1)
        order = rows.norm(dim=1).cpu().argsort(descending=True, stable=True)
        delivered = own.view(len(own), *rows.shape).clone()
        for place, share in enumerate(context.shares.tolist()):
            received = order[: int(np.ceil(share * len(rows)))].to(rows.device)
            delivered[place, received] = rows[received]
        return delivered.view_as(own)


@dataclass(frozen=True)
class RollingSubmodels(Payment):
    """Each receives a sub-model of the server's, made of the neurons that were used least so far.

    A sub-model is the server's model with the weights of its other neurons at zero, so that they neither answer nor
    learn. See :mod:`~aequa_lightning.mechanisms.rolling` for which neurons those are.

    Args:
        beta: How much the contribution of the best exceeds the others', > 0.
        steps: Sizes of sub-models that are measured in each round, >= 1.
        early: Part of the full model's accuracy that is held back in the first rounds, in [0, 1).
        late: The same later on, in [0, 1).
        switch: Last of the first rounds, >= 1.
    """

    beta: float = 80.0
    steps: int = 50
    early: float = 0.2
    late: float = 0.8
    switch: int = 100

    @property
    def differs_in_last_round(self) -> bool:
        """Yes: after every other round new neurons are chosen, and the reward is the model that was trained last."""
        return True

    def deliver(self, layer: Layer, context: RoundContext) -> Tensor:
        """Return the server's values where they are sent, zero elsewhere."""
        assert layer.held is not None
        return torch.where(layer.held, layer.server, 0.0)


def largest(values: Tensor, shares: Sequence[float], *, withhold_one: bool = False) -> Tensor:
    """Return copies of a vector of which only a share of the entries, the largest in magnitude, is kept.

    Args:
        values: Shape (size,).
        shares: Of each copy, in [0, 1], (N,); numbers of entries are rounded up.
        withhold_one: Whether no copy has the smallest entry, as in the authors' code of CGSV, RFFL and FedAVE; a single
            entry is kept.

    Returns:
        Shape (N, size), zero where an entry is not kept; of equal entries the first ones stay.

    Example:
        >>> largest(torch.tensor([1.0, -3.0, 2.0]), [1.0, 0.5, 0.0]).tolist()
        [[1.0, -3.0, 2.0], [0.0, -3.0, 2.0], [0.0, 0.0, 0.0]]
        >>> largest(torch.tensor([1.0, -3.0, 2.0]), [1.0], withhold_one=True).tolist()
        [[0.0, -3.0, 2.0]]
    """
    most = max(1, len(values) - 1) if withhold_one else len(values)
    order = values.abs().argsort(descending=True, stable=True)
    kept = torch.zeros(len(shares), len(values), device=values.device, dtype=values.dtype)
    for row, share in zip(kept, shares, strict=True):
        chosen = order[: min(int(np.ceil(share * len(values))), most)]
        row[chosen] = values[chosen]
    return kept


def subsets(context: RoundContext, *, kappa: float, reset: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Draw whose updates everybody averages.

    Participant i averages its own with ``ceil(share_i ** (1 - kappa) (N - 1))`` others.

    Args:
        context: The round.
        kappa: In [0, 1).
        reset: Probability of a reset, in [0, 1].

    Returns:
        The mixing matrix, (N, N), rows summing to 1, and who is reset, (N,).

    Example:
        >>> ones = torch.ones(3, dtype=torch.float64)
        >>> context = RoundContext(1, [4, 5, 6], ones / 3, ones, torch.tensor([1.0, 0.5, 0.0]), ones, ones)
        >>> (subsets(context, kappa=0.0, reset=0.0)[0] > 0).sum(axis=1).tolist()
        [3, 2, 1]
    """
    count = len(context.seeds)
    mixing, resets = np.zeros((count, count)), np.zeros(count, dtype=bool)
    for place, (seed, share) in enumerate(zip(context.seeds, context.shares.tolist(), strict=True)):
        generator = np.random.default_rng(seed)
        others = [other for other in range(count) if other != place]
        # A share of exactly 1/3 must not be rounded up for the sake of its last bit.
        size = int(np.ceil(share ** (1 - kappa) * len(others) - 1e-9))
        chosen = [place, *generator.choice(others, size, replace=False)] if size else [place]
        mixing[place, chosen] = 1 / len(chosen)
        resets[place] = generator.random() < reset
    return mixing, resets


def normalised(values: Tensor) -> Tensor:
    """Return values that sum to 1; equal ones where all are 0.

    Example:
        >>> normalised(torch.tensor([1.0, 3.0])).tolist(), normalised(torch.zeros(2)).tolist()
        ([0.25, 0.75], [0.5, 0.5])
    """
    total = values.sum()
    return values / total if total > 0 else torch.full_like(values, 1 / len(values))
