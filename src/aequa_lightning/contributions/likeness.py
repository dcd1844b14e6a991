"""Which participants train on the same data: the correlation of their updates over rounds, corrected for noise.

Two updates of one round agree in what everybody learns and differ in the order of the samples. The inner product of one
participant's update with another's from a *different* round is free of the noise of both. Its mean over pairs of
rounds, divided by that of each participant with itself, is 1 for the same data, whatever the order of the samples and
whatever independent noise is added, and less for different data.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import lsq_linear
from torch import Tensor

from aequa_lightning.contributions.evidence import FEWEST

# Pairs whose correlation is above this do not count in what is expected of different data.
UNLIKE = 0.8
# Classes and sizes explain a correlation up to here: the fit is on pairs below ``UNLIKE``.
MOST_EXPLAINED = 0.9
# A pair has the same data when its correlation has come this far from the expected one to 1, surely.
SAME = 0.85
# Standard errors that are allowed for.
MARGIN = 2.0
# The products of a round with all earlier ones have the earlier noise in common, which their spread does not show: of a
# variance of 4 s / T over T rounds (Hoeffding, 1948, on U-statistics) it shows 4 s / 3 T.
HIDDEN = 3.0
# Rounds with earlier ones to compare with, of which a variance can be taken.
LEAST_ROUNDS = 2


class Likeness:
    """Follows how alike the updates of each pair of participants are over the rounds.

    The state is one vector a participant and seven (N, N) matrices, whatever the number of rounds.

    Args:
        participants: N, their number.
        length: m, the length of the sketches.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> own = torch.randn(6, 500, generator=generator)
        >>> own[4] = own[1]
        >>> likeness = Likeness(6, length=500)
        >>> for _ in range(5):
        ...     likeness.add(own + 1 + torch.randn(6, 500, generator=generator), range(6))
        >>> likeness.same(range(6), torch.zeros(1, 6, 6))
        [(1, 4)]
    """

    def __init__(self, participants: int, *, length: int) -> None:
        self._rounds = torch.zeros(participants, dtype=torch.float64)
        self._sums = torch.zeros(participants, length)
        # By pair: rounds compared, sum of cross products x, of own products d, and of x x, x d, d d' and d d, from
        # which the variance follows.
        self._moments = torch.zeros(7, participants, participants, dtype=torch.float64)

    def add(self, sketches: Tensor, participants: Sequence[int]) -> None:
        """Take in one round; with fewer than four updates other than zero it says nothing.

        Args:
            sketches: Updates or sketches of them, (K, m).
            participants: Whose they are, K of them.
        """
        moving = (sketches != 0).any(dim=1).nonzero().flatten().tolist()
        present = [participants[place] for place in moving]
        if len(present) < FEWEST:
            return
        own, earlier, rounds = own_parts(sketches[moving]), self._sums[present].double(), self._rounds[present]
        cross = own @ earlier.T
        cross = cross + cross.T
        number = rounds[:, None] + rounds
        compared = ((rounds[:, None] > 0) & (rounds > 0)).double()
        # Each one's product with itself, for as many pairs of rounds as the pair of participants has.
        selves = number * (cross.diagonal() / (2 * rounds).clamp(min=1))[:, None]
        found = torch.stack(
            [torch.ones_like(cross), cross, selves, cross**2, cross * selves, selves * selves.T, selves**2]
        )
        places = torch.tensor(present)
        self._moments[:, places[:, None], places] += compared * found
        # In single precision, so that a resumed run compares with the same numbers.
        self._sums[places] = (earlier + own).float()
        self._rounds[places] += 1

    def correlations(self, participants: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the correlation of each pair and its standard error, (K, K) each; 0 and infinity while not known.

        Args:
            participants: Who is asked about, K of them.
        """
        places = torch.tensor(participants, dtype=torch.int64)
        compared, cross, selves, xx, xd, dd_other, dd = self._moments[:, places[:, None], places]
        others = selves.T
        known = (compared >= LEAST_ROUNDS) & (selves > 0) & (others > 0)
        lengths = torch.where(known, selves * others, 1.0).sqrt()
        selves, others = torch.where(known, selves, 1.0), torch.where(known, others, 1.0)
        found = cross / lengths
        # First-order variance of the ratio: sum over rounds of (x / sqrt(a b) - rho / 2 (d / a + d' / b))^2.
        squares = (
            xx / lengths**2
            + found**2 / 4 * (dd / selves**2 + dd.T / others**2 + 2 * dd_other / lengths**2)
            - found / lengths * (xd / selves + xd.T / others)
        )
        errors = (HIDDEN * squares.clamp(min=0) * compared / (compared - 1).clamp(min=1)).sqrt()
        return torch.where(known, found, 0.0), torch.where(known, errors, torch.inf)

    def same(self, participants: Sequence[int], traits: Tensor) -> list[tuple[int, int]]:
        """Return the pairs of some participants that train on the same data.

        Args:
            participants: Who is asked about.
            traits: What may explain that two participants are alike though their data differ, such as the cosine of
                their class counts: (F, N, N), each in [0, 1].
        """
        present = torch.tensor(sorted(participants), dtype=torch.int64)
        rows, columns = torch.triu_indices(len(present), len(present), 1)
        first, second = present[rows], present[columns]
        found, errors = (table[rows, columns] for table in self.correlations(present.tolist()))
        alike = same_data(found, errors, traits[:, first, second])
        return [(int(first[place]), int(second[place])) for place in alike.nonzero().flatten()]

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors."""
        return {"rounds": self._rounds, "sums": self._sums, "moments": self._moments}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._rounds, self._sums, self._moments = (state[name].clone() for name in ("rounds", "sums", "moments"))


def own_parts(updates: Tensor) -> Tensor:
    """Return what each update has beyond the direction that all have in common, at length 1.

    Args:
        updates: (K, m), none of them zero.

    Returns:
        float64 of shape (K, m); zero where nothing is left.

    Example:
        >>> own_parts(torch.tensor([[3.0, 4.0], [3.0, -4.0]])).tolist()
        [[0.0, 1.0], [0.0, -1.0]]
    """
    units = torch.nn.functional.normalize(updates.double(), dim=1)
    common = torch.nn.functional.normalize(units.mean(dim=0), dim=0)
    left = units - (units @ common)[:, None] * common
    lengths = left.norm(dim=1, keepdim=True)
    return torch.where(lengths > 1e-6, left / lengths.clamp(min=1e-6), 0.0)


def same_data(correlations: Tensor, errors: Tensor, traits: Tensor) -> Tensor:
    """Tell which pairs have the same data: those far more alike than their traits explain.

    The correlation of pairs with different data is fitted by their traits, by least squares with slopes that are not
    negative, over the pairs of the same run. A pair has the same data when even two standard errors less than its
    correlation would be at least 85 % of the way from the fit to 1. When most pairs are above 0.8, there is nothing to
    compare with, and no pair is found.

    Args:
        correlations: Noise-corrected correlation of each pair, (Q,).
        errors: Standard errors, (Q,); infinite for pairs that are not known yet.
        traits: What may explain it, (F, Q).

    Returns:
        bool of shape (Q,).

    Example:
        >>> found = torch.tensor([1.0, 0.9, 0.0, 0.1, 0.0, 0.1, 0.45, 0.5])
        >>> classes = torch.tensor([0.0, 1.0, 0.0, 0.1, 0.0, 0.1, 0.5, 0.5])
        >>> same_data(found, torch.full((8,), 0.01), classes[None]).nonzero().flatten().tolist()
        [0]
    """
    known = errors.isfinite()
    unlike = known & (correlations < UNLIKE)
    if 2 * int(unlike.sum()) <= int(known.sum()):
        return torch.zeros_like(known)
    design = np.column_stack([np.ones(len(errors)), *traits.numpy()])
    lowest = np.array([-np.inf, *[0.0] * len(traits)])
    fit = lsq_linear(design[unlike.numpy()], correlations[unlike].numpy(), bounds=(lowest, np.inf)).x
    expected = torch.from_numpy(design @ fit).clamp(max=MOST_EXPLAINED)
    return known & (correlations - MARGIN * errors - expected >= SAME * (1 - expected))
