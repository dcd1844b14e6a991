"""The amount of local work in a round, its division into batches and over replicas, and the layout of a batch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from aequa_lightning.engine.processes.seeding import derive_generator

# Indices of samples; a range if they are not shuffled, so that rows can be sliced instead of copied.
Batch = Tensor | range


@dataclass(frozen=True)
class LocalWork:
    """How much a participant trains: whole passes over its data, or a number of batches.

    Args:
        epochs: Passes; ignored when ``steps`` is given.
        steps: Batches.
        shuffle: Whether each pass has its own random order; else samples keep their order.
    """

    epochs: int = 1
    steps: int | None = None
    shuffle: bool = True

    def count(self, samples: int, batch_size: int) -> int:
        """Return the number of batches that :func:`batches` yields for this work.

        Example:
            >>> LocalWork(epochs=2).count(9, batch_size=4), LocalWork(epochs=2).count(10, batch_size=4)
            (4, 6)
        """
        return self.epochs * len(batch_spans(samples, batch_size)) if self.steps is None else self.steps

    def limited_to(self, steps: int | None, samples: int, batch_size: int) -> "LocalWork":
        """Return this work, cut to at most ``steps`` batches; None: no limit."""
        if steps is None or steps >= self.count(samples, batch_size):
            return self
        return replace(self, steps=steps)


def batches(samples: int, work: LocalWork, batch_size: int, *, seed: int, min_samples: int = 1) -> Iterator[Batch]:
    """Yield the batches of one participant's work.

    Args:
        samples: Number of samples, >= 1.
        work: Number of passes or batches.
        batch_size: Samples of a batch. A single left-over sample joins the batch before it, because normalisation
            over a batch of one is undefined, unless ``batch_size`` is 1.
        seed: Determines the order.
        min_samples: Smallest batch, 1 or 2; a participant with fewer samples repeats its only one.

    Yields:
        int64 indices of shape (batch,); a range of them without shuffling.

    Example:
        >>> [len(batch) for batch in batches(5, LocalWork(epochs=1), 2, seed=0)]
        [2, 3]
        >>> list(batches(5, LocalWork(steps=3, shuffle=False), 2, seed=0))
        [range(0, 2), range(2, 5), range(0, 2)]
        >>> list(batches(1, LocalWork(epochs=1), 2, seed=0, min_samples=2))
        [tensor([0, 0])]
    """
    spans = batch_spans(samples, batch_size)
    left, epoch = work.steps, 0
    while (left is None and epoch < work.epochs) or (left is not None and left > 0):
        order: Batch = range(samples)
        if work.shuffle:
            order = torch.randperm(samples, generator=derive_generator(seed, "epoch", epoch))
        for start, end in spans[:left]:
            yield order[start:end] if samples >= min_samples else torch.zeros(min_samples, dtype=torch.int64)
        if left is not None:
            left -= len(spans)
        epoch += 1


def replica_share(batch: Batch, replica: int, replicas: int, *, min_samples: int = 1) -> tuple[Batch, float]:
    """Return a replica's part of a batch, and the weight of its mean loss.

    With these weights the mean over replicas equals the mean over the batch. If a batch is too small for all replicas,
    the first ones share it. The others must take part in the backward pass too: they get some samples with weight 0.

    Args:
        batch: The batch.
        replica: Index of the replica.
        replicas: Number of replicas.
        min_samples: Smallest number of samples of a part, 1 or 2.

    Example:
        >>> [replica_share(range(5), replica, 2, min_samples=2) for replica in (0, 1)]
        [(range(0, 5, 2), 1.2), (range(1, 5, 2), 0.8)]
        >>> [replica_share(range(3), replica, 2, min_samples=2) for replica in (0, 1)]
        [(range(0, 3), 2.0), (range(0, 2), 0.0)]
    """
    sharing = max(1, min(replicas, len(batch) // min_samples))
    if replica >= sharing:
        return batch[:min_samples], 0.0
    part = batch[replica::sharing]
    return part, len(part) * replicas / len(batch)


def batch_spans(samples: int, batch_size: int) -> list[tuple[int, int]]:
    """Return the (start, end) positions of the batches of one pass; a single left-over sample joins the last batch.

    Example:
        >>> batch_spans(5, 2), batch_spans(3, 1)
        ([(0, 2), (2, 5)], [(0, 1), (1, 2), (2, 3)])
    """
    starts = list(range(0, samples, batch_size))
    if len(starts) > 1 and batch_size > 1 and samples - starts[-1] == 1:
        starts.pop()
    return list(pairwise([*starts, samples]))


def select_rows(table: Tensor, batch: Batch) -> Tensor:
    """Return the rows of a batch; a view if the batch is a range, else a copy.

    Example:
        >>> (
        ...     select_rows(torch.tensor([4, 5, 6]), range(1, 3)),
        ...     select_rows(torch.tensor([4, 5, 6]), torch.tensor([2, 0])),
        ... )
        (tensor([5, 6]), tensor([6, 4]))
    """
    return table[batch.start : batch.stop : batch.step] if isinstance(batch, range) else table[batch]


def channels_last(inputs: Tensor) -> Tensor:
    """Convert images to the channels-last memory format, which makes convolutions faster on CPU and GPU.

    Weights keep their layout, because they are views of the flat parameter vector; torch converts them where needed.

    Args:
        inputs: Any shape; inputs without the four dimensions of images are returned unchanged.

    Example:
        >>> channels_last(torch.zeros(2, 3, 4, 4)).stride()
        (48, 1, 12, 3)
        >>> channels_last(torch.zeros(2, 1, 4, 4)).stride()
        (16, 1, 4, 1)
    """
    if inputs.ndim != 4:
        return inputs
    if inputs.shape[1] == 1:
        # With one channel both layouts store the same bytes, and torch tells them apart by the strides only.
        height, width = inputs.shape[2:]
        return inputs.contiguous().as_strided(inputs.shape, (height * width, 1, width, 1))
    return inputs.contiguous(memory_format=torch.channels_last)
