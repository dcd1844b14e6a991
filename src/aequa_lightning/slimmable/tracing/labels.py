"""Labels: for each element of a tensor the channels that must be kept for the element to exist.

A *channel* is one position along one dimension of a parameter; all of them are numbered. An element of an activation
exists at a width if all channels in its labels are kept. A tensor carries any number of *factors*, each with one label
per element: an activation of a linear layer has one (the row of the weight), a weight has two (its row and its
column). A factor is stored with size 1 along every dimension along which it does not vary, and broadcasts.

Labels are whole numbers in floating point (exact up to 16 million), because some operations that move data have no
kernel for integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CONSTANT = 0
"""An element that the network's code makes itself; it can be combined with any channel."""
ALWAYS = 1
"""An element that exists at every width, such as one of the network's input."""
FIRST = 2
"""The label of channel 0; that of channel ``i`` is ``FIRST + i``."""


@dataclass(frozen=True)
class Labels:
    """The labels of one tensor.

    Attributes:
        shape: The tensor's shape.
        factors: Tensors that broadcast to ``shape``, each with size 1 where it does not vary. Without any, all elements
            exist at every width.
        constant: Whether the network's code made the tensor from nothing; then there are no factors.
        copies: Broadcasts to ``shape`` and varies along the dimensions along which the code has repeated the tensor,
            where it can be combined with any channels. None: there are no such dimensions.
    """

    shape: tuple[int, ...]
    factors: tuple[Tensor, ...] = ()
    constant: bool = False
    copies: Tensor | None = None

    @property
    def span(self) -> tuple[int, ...]:
        """The shape, with size 1 along dimensions of copies."""
        repeated = frozenset() if self.copies is None else varying(self.copies)
        return tuple(1 if dim in repeated else size for dim, size in enumerate(self.shape))

    def full(self, number: int) -> Tensor:
        """Return a factor expanded to the whole shape; beyond the last factor, one without channels."""
        if number < len(self.factors):
            return self.factors[number].expand(self.shape)
        # A tensor that has other factors is not constrained by a further one.
        fill = CONSTANT if self.constant or self.factors else ALWAYS
        return torch.full((1,) * len(self.shape), fill, dtype=torch.float).expand(self.shape)

    def along(self, dim: int) -> Tensor:
        """Return the labels along one dimension, (size,): those of the factor that varies along it, if any does."""
        for factor in self.factors:
            if factor.shape[dim] > 1:
                first = [0 if other != dim % factor.ndim else slice(None) for other in range(factor.ndim)]
                return factor[tuple(first)]
        return torch.full((self.shape[dim],), CONSTANT if self.constant else ALWAYS, dtype=torch.float)


def varying(factor: Tensor) -> frozenset[int]:
    """Return the dimensions along which a compact factor varies.

    Example:
        >>> sorted(varying(torch.zeros(1, 4, 1, 2)))
        [1, 3]
    """
    return frozenset(dim for dim, size in enumerate(factor.shape) if size > 1)


def is_channel(labels: Tensor) -> Tensor:
    """Return where labels are those of channels."""
    return labels >= FIRST


def compact(label: Tensor) -> Tensor:
    """Return a factor with size 1 along each dimension along which it does not vary.

    A tensor is rectangular at every width, so that constants along a dimension take the label of their neighbours.

    Example:
        >>> compact(torch.tensor([[2.0, 3.0], [2.0, 3.0], [0.0, 0.0]]))
        tensor([[2., 3.]])
    """
    for dim in sorted(range(label.ndim), key=lambda dim: -label.shape[dim]):
        if label.shape[dim] == 1:
            continue
        first = label.narrow(dim, 0, min(1, label.shape[dim]))
        if label.stride(dim) == 0 or label.shape[dim] == 0:
            label = first
            continue
        second = label.narrow(dim, 1, 1)
        if bool(((first != second) & (first != CONSTANT) & (second != CONSTANT)).any()):
            continue  # the cheap answer for most dimensions that vary
        if bool((label == first).all()):
            label = first
            continue
        most = label.amax(dim, keepdim=True)
        if bool(((label == most) | (label == CONSTANT)).all()):
            label = most
    return label


def labels_from(shape: Sequence[int], factors: Sequence[Tensor]) -> Labels:
    """Return labels of the given factors, expanded or not, without those that hold no channel."""
    kept = [compact(factor) for factor in factors]
    constant = bool(kept) and not any(bool(factor.any()) for factor in kept)
    return Labels(tuple(shape), tuple(factor for factor in kept if bool(is_channel(factor).any())), constant)


def aligned(factor: Tensor, ndim: int) -> Tensor:
    """Return a factor with leading dimensions of size 1, as broadcasting adds them."""
    return factor.reshape((1,) * (ndim - factor.ndim) + tuple(factor.shape))


def resized(labels: Labels, shape: Sequence[int]) -> Labels:
    """Return the same factors for a tensor that has other sizes where no factor varies."""
    return Labels(tuple(shape), labels.factors, labels.constant)


def channels_of(labels: Tensor) -> Tensor:
    """Return the numbers of the channels among labels, each once, ascending.

    Example:
        >>> channels_of(torch.tensor([1.0, 5.0, 3.0, 5.0, 0.0]))
        tensor([1, 3])
    """
    flat = labels.reshape(-1)
    found: Tensor = torch.unique(flat[flat >= FIRST])
    return found.long() - FIRST


def number_channels(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[Tensor | None, ...]]:
    """Number the channels of tensors: every position of every dimension longer than 1.

    Returns:
        For each dimension of each tensor, by name, the numbers of its positions, (size,); None where its size is 1.

    Example:
        >>> number_channels({"weight": (2, 1), "bias": (2,)})
        {'weight': (tensor([0, 1]), None), 'bias': (tensor([2, 3]),)}
    """
    count, numbers = 0, {}
    for name, shape in shapes.items():
        dims: list[Tensor | None] = []
        for size in shape:
            dims.append(torch.arange(count, count + size) if size > 1 else None)
            count += size if size > 1 else 0
        numbers[name] = tuple(dims)
    return numbers


def parameter_labels(numbers: Sequence[Tensor | None], shape: Sequence[int]) -> Labels:
    """Return the labels of a parameter: one factor for each of its dimensions that has channels.

    Dimensions of size 1 have none, because a single channel is never dropped.

    Args:
        numbers: For each dimension, the numbers of the channels along it, (size,), or None where there are none.
        shape: The parameter's shape.
    """
    factors = []
    for dim, ids in enumerate(numbers):
        if ids is not None and len(ids) > 1:
            factors.append((ids + FIRST).float().view([-1 if other == dim else 1 for other in range(len(shape))]))
    return Labels(tuple(shape), tuple(factors))
