"""The average of the participants' updates, exact whatever the number of processes.

Floating-point sums depend on their order, and the order depends on which process hosts whom. Updates are therefore
rounded to multiples of one number before they are summed. Sums of such multiples are exact as long as they fit into
the 53 bits of a float64, so one, two or a hundred processes give the same bits.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

# 2**-40 is about 1e-12: finer than float32 can hold for any parameter above 2**-16. It leaves 13 bits above the point.
RESOLUTION = 2.0**-40
# An update that moves a parameter further has exploded; the weighted sums of the others stay exact.
LARGEST_UPDATE = 2.0**12
# Numbers that are rounded at a time: as float64 they stay in the processor's second cache. On another device every
# chunk costs the start of some operations, and 128 MiB are few.
CHUNK, CHUNK_ON_DEVICE = 2**15, 2**24


def acceptable(updates: Tensor) -> list[bool]:
    """Tell which updates may enter the average: every entry finite and below 2**12 in magnitude.

    Args:
        updates: Shape (K, P), floating point.

    Returns:
        The answer for each of the K.

    Example:
        >>> acceptable(torch.tensor([[1.0, -3.0], [1.0, float("nan")]]))
        [True, False]
    """
    if not updates.shape[-1]:
        return [True] * len(updates)
    # Both ends are NaN where any entry is, and a comparison with NaN is false.
    # (torch.aminmax would need 15 times as long by rows.)
    ends = zip(updates.amin(-1).tolist(), updates.amax(-1).tolist(), strict=True)
    return [low > -LARGEST_UPDATE and high < LARGEST_UPDATE for low, high in ends]


class ExactSum:
    """Accumulates weighted updates; equal to the last bit in any order and any grouping.

    Args:
        size: Number of parameters.
        device: Where the updates live.

    Attributes:
        total: The sum, float64 of shape (size,). Sums over processes may be added up as they are.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.total = torch.zeros(size, dtype=torch.float64, device=device)

    def reset(self) -> None:
        """Start a new round."""
        self.total.zero_()

    def add(self, update: Tensor, weight: float) -> None:
        """Add ``weight * update``, rounded to a multiple of 2**-40.

        Args:
            update: Shape (size,), floating point of any precision, acceptable in the sense of :func:`acceptable`; it
                is not changed.
            weight: In (0, 1]; the weights of one round add up to at most 1.

        Example:
            >>> total = ExactSum(1, torch.device("cpu"))
            >>> total.add(torch.tensor([3.0]), 0.5)
            >>> total.total
            tensor([1.5000], dtype=torch.float64)
        """
        chunk = CHUNK if update.device.type == "cpu" else CHUNK_ON_DEVICE
        parts: Iterable[tuple[Tensor, Tensor]] = [(update, self.total)]
        # Cutting a small one would take as long as adding it.
        if len(update) > chunk:
            parts = zip(update.split(chunk), self.total.split(chunk), strict=True)
        for part, total in parts:
            # The product is a copy in every type; `part.double()` is not one where the update is in float64 itself.
            total.add_(torch.mul(part.to(torch.float64), weight / RESOLUTION).round_(), alpha=RESOLUTION)

    def mean(self, weight: Tensor) -> Tensor:
        """Return the weighted mean of what was added; call it after the sum over processes.

        Args:
            weight: Total weight behind each entry, float64 of shape (size,) or (); where it is 0 the mean is 0.

        Returns:
            float64 of shape (size,).
        """
        return torch.where(weight > 0, self.total / weight, 0.0)
