"""Short sketches of long vectors that keep inner products, so that many rounds can be remembered."""

import torch
from torch import Tensor

# Numbers of a sketch. A prime, so that no layer's rows fall into step with it.
LENGTH = 16381
# Rows of a sketch that are summed at a time, which bounds the memory for long vectors.
ROWS = 64


class Sketch:
    """A fixed random linear map from P numbers to fewer: entries get random signs, and each m-th entry is added up.

    The inner product of two sketches is that of the vectors in expectation, with a standard deviation of at most about
    1 / sqrt(m) of the product of their lengths (a count sketch; Charikar et al., ICALP 2002). What lies in the span of
    some vectors lies in the span of their sketches. Vectors that are short enough stay as they are.

    Args:
        size: P, the length of the vectors.
        generator: Source of the signs, on the CPU.
        device: Where the vectors live.
        length: m, the length of a sketch.

    Example:
        >>> Sketch(3, torch.Generator(), torch.device("cpu"))(torch.tensor([1.0, 2.0, 3.0])).tolist()
        [1.0, 2.0, 3.0]
    """

    def __init__(self, size: int, generator: torch.Generator, device: torch.device, *, length: int = LENGTH) -> None:
        self.length = min(size, length)
        self._signs: Tensor | None = None
        if size > length:
            drawn = torch.randint(0, 2, (size,), generator=generator, dtype=torch.int8)
            self._signs = (2 * drawn - 1).to(device)

    @property
    def error(self) -> float:
        """Expected square of the cosine of two sketches whose vectors are orthogonal; 0 where nothing is shortened."""
        return 0.0 if self._signs is None else 1 / self.length

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the sketch of a vector.

        Args:
            vector: Floating point, (P,).

        Returns:
            float64 of shape (m,).
        """
        if self._signs is None:
            return vector.double()
        total = torch.zeros(self.length, dtype=torch.float64, device=vector.device)
        chunk = ROWS * self.length
        for part, signs in zip(vector.split(chunk), self._signs.split(chunk), strict=True):
            signed = part.double() * signs
            whole = len(signed) // self.length * self.length
            total += signed[:whole].view(-1, self.length).sum(dim=0)
            total[: len(signed) - whole] += signed[whole:]
        return total
