"""Averages that a few false updates cannot move far."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from typing_extensions import override

from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.engine.server.aggregators import Aggregator
from aequa_lightning.engine.server.collectives import TABLE, gather, gram_matrix
from aequa_lightning.errors import InputError


class RobustAggregator(Aggregator):
    """Base: all updates count alike and are seen together, range by range: no process ever holds all of them."""

    weighting = "uniform"

    @override
    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return plain steps of length 1."""
        return SGD(parameters, lr=1.0, foreach=False)

    def combine(
        self,
        updates: Mapping[int, Tensor],
        participants: Sequence[int],
        topology: Topology,
        *,
        size: int,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return what takes the place of the mean; a collective operation over the groups.

        Args:
            updates: Updates of the participants that this group hosted, by index; of shape (P,).
            participants: Indices of all participants with an accepted update, N of them.
            topology: Where this process stands.
            size: P.
            dtype: Type of the updates.

        Returns:
            float64 of shape (P,), the same bits for any number of processes.
        """
        combined = torch.zeros(size, dtype=torch.float64, device=topology.device)
        if participants:
            chosen = self.choose(updates, participants, topology, size=size, dtype=dtype)
            step = max(1, TABLE // len(chosen))
            for start in range(0, size, step):
                end = min(start + step, size)
                table = gather(updates, chosen, topology, start=start, end=end, dtype=dtype)
                combined[start:end] = self.centre(table.double())
        return combined

    def choose(
        self,
        updates: Mapping[int, Tensor],
        participants: Sequence[int],
        topology: Topology,
        *,
        size: int,
        dtype: torch.dtype,
    ) -> Sequence[int]:
        """Return whose updates are combined; a collective operation."""
        return participants

    @abstractmethod
    def centre(self, table: Tensor) -> Tensor:
        """Return the centre of each column of a table, float64 of shape (N, columns)."""


@dataclass(frozen=True)
class Median(RobustAggregator):
    """The median of every coordinate (Yin et al., ICML 2018); of an even number the mean of the middle two."""

    @override
    def centre(self, table: Tensor) -> Tensor:
        """Return the medians."""
        return table.quantile(0.5, dim=0)


@dataclass(frozen=True)
class TrimmedMean(RobustAggregator):
    """The mean of every coordinate without its smallest and its largest values (Yin et al., ICML 2018).

    Args:
        share: Share of the values that is left out at each end, in [0, .5); numbers are rounded down.

    Raises:
        InputError: The share is out of range.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.share < 0.5:
            raise InputError(f"trainer.aggregator.share={self.share} must lie in [0, 0.5); 0.5 would be Median.")

    @override
    def centre(self, table: Tensor) -> Tensor:
        """Return the trimmed means."""
        # A hair more, for .29 of 100 is a hair less than 29.
        cut = int(self.share * len(table) + 1e-9)
        return table.sort(dim=0).values[cut : len(table) - cut].mean(dim=0)


@dataclass(frozen=True)
class MultiKrum(RobustAggregator):
    """The mean of the updates that lie closest to their neighbours (Blanchard et al., NeurIPS 2017).

    Args:
        faulty: How many false updates are expected, >= 0.
        kept: How many updates are averaged, >= 1; null: all but the faulty. 1 is Krum.

    Raises:
        InputError: A value is out of range.
    """

    faulty: int = 1
    kept: int | None = None

    def __post_init__(self) -> None:
        if self.faulty < 0 or (self.kept is not None and self.kept < 1):
            raise InputError(f"trainer.aggregator: faulty={self.faulty} must be at least 0 and kept={self.kept} 1.")

    @override
    def choose(
        self,
        updates: Mapping[int, Tensor],
        participants: Sequence[int],
        topology: Topology,
        *,
        size: int,
        dtype: torch.dtype,
    ) -> Sequence[int]:
        """Return those with the smallest scores."""
        gram = gram_matrix(updates, participants, topology, size=size, dtype=dtype)
        kept = self.kept or max(1, len(participants) - self.faulty)
        return [participants[place] for place in krum_order(gram, faulty=self.faulty)[:kept]]

    @override
    def centre(self, table: Tensor) -> Tensor:
        """Return the means."""
        return table.mean(dim=0)


def krum_order(gram: Tensor, *, faulty: int) -> list[int]:
    """Return the places of updates by Krum's score: the sum of squared distances to the N - faulty - 2 nearest others.

    Args:
        gram: Inner products of the updates, (N, N).
        faulty: How many are expected to be false; at least one neighbour counts.

    Returns:
        Places ascending by score, ties in order, (N,).

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [2.5], [9.0]])
        >>> krum_order(points @ points.T, faulty=1)
        [0, 1, 2, 3]
    """
    squares = gram.diagonal()
    distances = (squares[:, None] + squares[None] - 2 * gram).clamp(min=0)
    neighbours = max(1, len(gram) - faulty - 2)
    # The first of the sorted distances is the one to itself.
    scores = distances.sort(dim=1).values[:, 1 : neighbours + 1].sum(dim=1)
    return [int(place) for place in scores.argsort(stable=True)]
