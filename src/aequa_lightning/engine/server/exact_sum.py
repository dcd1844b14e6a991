"""Weighted sums of updates that are bitwise equal for any number of processes.

Floating-point sums depend on the order of summation, which depends on the assignment of participants to processes.
Weighted updates are therefore rounded to multiples of 2**-40 before they are summed. Sums of such multiples are exact
as long as they fit into the 53 bits of a float64's significand.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

# About 1e-12: finer than the spacing of float32 numbers above 2**-16. It leaves 13 bits for the integer part.
RESOLUTION = 2.0**-40
# Updates with larger entries are refused as exploded; weighted sums of the others stay exact.
LARGEST_UPDATE = 2.0**12
# Entries that are rounded at a time. On the CPU a float64 chunk of 256 KiB fits into the second-level cache. On a GPU
# each chunk costs several kernel launches, so chunks are large: 128 MiB.
CHUNK, CHUNK_ON_DEVICE = 2**15, 2**24


def are_valid(updates: Tensor) -> list[bool]:
    """Tell which updates may enter the average: every entry finite and below 2**12 in magnitude.

    Args:
        updates: Shape (K, P), floating point.

    Returns:
        Whether each of the K updates may enter.

    Example:
        >>> are_valid(torch.tensor([[1.0, -3.0], [1.0, float("nan")]]))
        [True, False]
    """
    if not updates.shape[-1]:
        return [True] * len(updates)
    # Minimum and maximum are NaN if any entry is NaN, and comparisons with NaN are false.
    # (torch.aminmax takes 15 times as long along rows.)
    ends = zip(updates.amin(-1).tolist(), updates.amax(-1).tolist(), strict=True)
    return [low > -LARGEST_UPDATE and high < LARGEST_UPDATE for low, high in ends]


class ExactSum:
    """Accumulates weighted updates; the result is bitwise equal for any order and grouping.

    Args:
        size: Number of parameters.
        device: Device of the updates.

    Attributes:
        total: The sum, float64 of shape (size,). Adding the sums of several processes is exact too.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.total = torch.zeros(size, dtype=torch.float64, device=device)

    def reset(self) -> None:
        """Start a new round."""
        self.total.zero_()

    def add(self, update: Tensor, weight: float) -> None:
        """Add ``weight * update``, rounded to a multiple of 2**-40.

        Args:
            update: Shape (size,), floating point of any precision, are_valid in the sense of :func:`are_valid`; it
                is not changed.
            weight: Any, as long as all weighted entries of a round add up to less than 2**12 in magnitude. Weights in
                (0, 1] that add up to at most 1 do.

        Example:
            >>> total = ExactSum(1, torch.device("cpu"))
            >>> total.add(torch.tensor([3.0]), 0.5)
            >>> total.total
            tensor([1.5000], dtype=torch.float64)
        """
        chunk = CHUNK if update.device.type == "cpu" else CHUNK_ON_DEVICE
        parts: Iterable[tuple[Tensor, Tensor]] = [(update, self.total)]
        # Splitting a small update would take as long as adding it.
        if len(update) > chunk:
            parts = zip(update.split(chunk), self.total.split(chunk), strict=True)
        for part, total in parts:
            # torch.mul makes a copy for any type, so that round_ does not change a float64 update in place.
            total.add_(torch.mul(part.to(torch.float64), weight / RESOLUTION).round_(), alpha=RESOLUTION)

    def mean(self, weight: Tensor) -> Tensor:
        """Return the weighted mean of the added updates; call it after the sum over processes.

        Args:
            weight: Total weight behind each entry, float64 of shape (size,) or (); where it is 0, the mean is 0.

        Returns:
            float64 of shape (size,).
        """
        return torch.where(weight > 0, self.total / weight, 0.0)
