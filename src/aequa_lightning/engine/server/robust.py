"""Byzantine-robust aggregators: median, trimmed mean and Multi-Krum."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from typing_extensions import override

from aequa_lightning.engine.server.aggregators import Aggregator
from aequa_lightning.engine.server.collectives import MAX_ENTRIES, DistributedUpdates
from aequa_lightning.errors import InputError


class RobustAggregator(Aggregator):
    """Base class of aggregators that compare updates with each other.

    All updates have the same weight. They are exchanged in ranges of entries, so that no process holds all of them.
    """

    weighting = "uniform"

    @override
    def optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """Return SGD with learning rate 1, which adds the robust average."""
        return SGD(parameters, lr=1.0, foreach=False)

    def combine(self, updates: DistributedUpdates) -> Tensor:
        """Return the robust average of updates; a collective operation over the groups.

        Args:
            updates: Updates of all participants with an accepted update, N of them.

        Returns:
            float64 of shape (P,), the same bits for any number of processes.
        """
        combined = torch.zeros(updates.size, dtype=torch.float64, device=updates.topology.device)
        if updates.participants:
            chosen = replace(updates, participants=self.choose(updates))
            step = max(1, MAX_ENTRIES // len(chosen.participants))
            for start in range(0, chosen.size, step):
                end = min(start + step, chosen.size)
                combined[start:end] = self.centre(chosen.gather(start, end).double())
        return combined

    def choose(self, updates: DistributedUpdates) -> Sequence[int]:
        """Return the participants whose updates are combined, by default all; a collective operation."""
        return updates.participants

    @abstractmethod
    def centre(self, table: Tensor) -> Tensor:
        """Return the robust mean of each column of a table.

        Args:
            table: A range of the updates, float64 of shape (N, columns).

        Returns:
            float64 of shape (columns,).
        """


@dataclass(frozen=True)
class Median(RobustAggregator):
    """Coordinate-wise median (Yin et al., ICML 2018); for an even number of updates the mean of the middle two."""

    @override
    def centre(self, table: Tensor) -> Tensor:
        """Return the medians."""
        return table.quantile(0.5, dim=0)


@dataclass(frozen=True)
class TrimmedMean(RobustAggregator):
    """Coordinate-wise mean without the smallest and the largest values (Yin et al., ICML 2018).

    Args:
        share: Share of the values that is left out at each end, in [0, 0.5); the number is rounded down.

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
        # 0.29 * 100 is slightly less than 29 in floating point, so add a tolerance before rounding down.
        cut = int(self.share * len(table) + 1e-9)
        return table.sort(dim=0).values[cut : len(table) - cut].mean(dim=0)


@dataclass(frozen=True)
class MultiKrum(RobustAggregator):
    """The mean of the updates that lie closest to their neighbours (Blanchard et al., NeurIPS 2017).

    Args:
        faulty: Expected number of false updates, >= 0.
        kept: Number of updates that are averaged, >= 1; 1 is Krum. null: all but ``faulty``.

    Raises:
        InputError: A value is out of range.
    """

    faulty: int = 1
    kept: int | None = None

    def __post_init__(self) -> None:
        if self.faulty < 0 or (self.kept is not None and self.kept < 1):
            raise InputError(
                f"trainer.aggregator: faulty={self.faulty} must be at least 0, kept={self.kept} at least 1."
            )

    @override
    def choose(self, updates: DistributedUpdates) -> Sequence[int]:
        """Return the participants with the smallest scores."""
        kept = self.kept or max(1, len(updates.participants) - self.faulty)
        order = krum_order(updates.gram_matrices()[0], faulty=self.faulty)
        return [updates.participants[place] for place in order[:kept]]

    @override
    def centre(self, table: Tensor) -> Tensor:
        """Return the means."""
        return table.mean(dim=0)


def krum_order(gram: Tensor, *, faulty: int) -> list[int]:
    """Rank updates by Krum's score: the sum of squared distances to the N - faulty - 2 nearest other updates.

    Args:
        gram: Inner products of the updates, of shape (N, N).
        faulty: Expected number of false updates; at least one neighbour is used for any value.

    Returns:
        Positions of the updates, ascending by score, ties in their order; N of them.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [2.5], [9.0]])
        >>> krum_order(points @ points.T, faulty=1)
        [0, 1, 2, 3]
    """
    squares = gram.diagonal()
    distances = (squares[:, None] + squares[None] - 2 * gram).clamp(min=0)
    neighbours = max(1, len(gram) - faulty - 2)
    # Skip the smallest distance of each row, which is that of the update to itself.
    scores = distances.sort(dim=1).values[:, 1 : neighbours + 1].sum(dim=1)
    return [int(place) for place in scores.argsort(stable=True)]
