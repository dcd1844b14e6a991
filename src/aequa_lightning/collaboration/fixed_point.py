"""The average of the participants' updates, exact whatever the number of processes.

Floating-point sums depend on their order, and the order depends on which process hosts whom. Updates are therefore
summed as 64-bit fixed-point numbers: integers add associatively, so one, two or a hundred processes give the same bits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

# Resolution 2**-40, about 1e-12: finer than float32 can hold for any parameter above 2**-16. 23 bits remain above the
# point, so a weighted sum may reach 2**22 and a single update is refused far below that.
FRACTION_BITS = 40
LARGEST_UPDATE = 2.0**20
# Numbers that are turned at a time: their float64 stay in the processor's second cache.
CHUNK = 2**16


def to_fixed_point(values: Tensor) -> Tensor:
    """Round to multiples of 2**-40, as int64.

    Args:
        values: Any shape, floating point, finite, of magnitude at most 2**22.

    Returns:
        Same shape, int64.

    Example:
        >>> int(to_fixed_point(torch.tensor([0.5]))) == 2**39
        True
    """
    return (values.double() * 2.0**FRACTION_BITS).round_().long()


def from_fixed_point(values: Tensor) -> Tensor:
    """Turn fixed-point numbers back into float64.

    Example:
        >>> from_fixed_point(to_fixed_point(torch.tensor([0.1, -2.0]))).tolist()
        [0.10000000149011612, -2.0]
    """
    return values.double() / 2.0**FRACTION_BITS


def acceptable(updates: Tensor) -> Tensor:
    """Tell which updates may enter the average: every entry finite and below 2**20 in magnitude.

    Args:
        updates: Shape (..., P), floating point.

    Returns:
        bool of shape (...).

    Example:
        >>> acceptable(torch.tensor([[1.0, -3.0], [1.0, float("nan")]]))
        tensor([ True, False])
    """
    if not updates.shape[-1]:
        return torch.ones(updates.shape[:-1], dtype=torch.bool, device=updates.device)
    # Both ends are NaN where any entry is, and a comparison with NaN is false.
    # (torch.aminmax would need 15 times as long by rows.)
    return (updates.amin(-1) > -LARGEST_UPDATE) & (updates.amax(-1) < LARGEST_UPDATE)


class ExactSum:
    """Accumulates weighted updates; equal to the last bit in any order and any grouping.

    Args:
        size: Number of parameters.
        device: Where the updates live.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.total = torch.zeros(size, dtype=torch.int64, device=device)

    def reset(self) -> None:
        """Start a new round."""
        self.total.zero_()

    def add(self, update: Tensor, weight: float) -> None:
        """Add ``weight * update``.

        Args:
            update: Shape (size,), acceptable in the sense of :func:`acceptable`.
            weight: In (0, 1]; the weights of one round add up to at most 1. The same update with its weight negative is
                taken out again, for rounding is symmetric.
        """
        self.add_all(update[None], [weight])

    def add_all(self, updates: Tensor, weights: Sequence[float]) -> None:
        """Add several updates, each as :meth:`add` would.

        Args:
            updates: Shape (K, size).
            weights: The K weights.
        """
        factors = torch.tensor(weights, dtype=torch.float64, device=updates.device)[:, None]
        columns = max(1, CHUNK // len(weights))
        for part, total in zip(updates.split(columns, dim=1), self.total.split(columns), strict=True):
            total += to_fixed_point(part.double().mul_(factors)).sum(0)

    def mean(self, weight: Tensor) -> Tensor:
        """Return the weighted mean of what was added; call it after the sum over processes.

        Args:
            weight: Total weight behind each entry, float64 of shape (size,) or (); where it is 0 the mean is 0.

        Returns:
            float64 of shape (size,).
        """
        return torch.where(weight > 0, from_fixed_point(self.total) / weight, 0.0)
