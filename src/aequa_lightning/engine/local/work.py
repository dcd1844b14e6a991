"""How much a participant trains in a round, and in which batches."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from aequa_lightning.engine.processes.seeding import derive_generator

# Numbers of samples: a range where they come as they lie, for then nothing has to be gathered.
Batch = Tensor | range


@dataclass(frozen=True)
class LocalWork:
    """How much a participant trains: whole passes over its data, or a number of batches.

    Args:
        epochs: Passes; ignored when ``steps`` is given.
        steps: Batches.
        shuffle: Whether each pass has an order of its own; else the samples come as they lie.
    """

    epochs: int = 1
    steps: int | None = None
    shuffle: bool = True

    def count(self, samples: int, batch_size: int) -> int:
        """Return the number of batches that :func:`batches` makes of it.

        Example:
            >>> LocalWork(epochs=2).count(9, batch_size=4), LocalWork(epochs=2).count(10, batch_size=4)
            (4, 6)
        """
        return self.epochs * len(spans_of(samples, batch_size)) if self.steps is None else self.steps

    def within(self, steps: int | None, samples: int, batch_size: int) -> "LocalWork":
        """Return what can be done of it in some steps; None: all."""
        if steps is None or steps >= self.count(samples, batch_size):
            return self
        return replace(self, steps=steps)


def batches(samples: int, work: LocalWork, batch_size: int, *, seed: int, least: int = 1) -> Iterator[Batch]:
    """Yield the batches of one participant's work.

    Args:
        samples: Number of samples, >= 1.
        work: How many passes or batches.
        batch_size: Samples of a batch. A single left-over sample joins the batch before it, because normalisation
            over a batch of one is undefined, unless one is what was asked for.
        seed: Decides the order.
        least: Samples that a batch must have, 1 or 2; a participant with a single sample gives it that often.

    Yields:
        int64 indices of shape (batch,), or a range of them where nothing is shuffled.

    Example:
        >>> [len(batch) for batch in batches(5, LocalWork(epochs=1), 2, seed=0)]
        [2, 3]
        >>> list(batches(5, LocalWork(steps=3, shuffle=False), 2, seed=0))
        [range(0, 2), range(2, 5), range(0, 2)]
        >>> list(batches(1, LocalWork(epochs=1), 2, seed=0, least=2))
        [tensor([0, 0])]
    """
    spans = spans_of(samples, batch_size)
    left, epoch = work.steps, 0
    while (left is None and epoch < work.epochs) or (left is not None and left > 0):
        order: Batch = range(samples)
        if work.shuffle:
            order = torch.randperm(samples, generator=derive_generator(seed, "epoch", epoch))
        for start, end in spans[:left]:
            yield order[start:end] if samples >= least else torch.zeros(least, dtype=torch.int64)
        if left is not None:
            left -= len(spans)
        epoch += 1


def share_of(batch: Batch, replica: int, replicas: int, *, least: int = 1) -> tuple[Batch, float]:
    """Return a replica's part of a batch, and the factor that makes the mean over replicas the mean over the batch.

    Where a batch is too small for all replicas, the first ones share it. The others, which must take part in the
    backward pass, compute some of it at no weight.

    Args:
        batch: The batch.
        replica: Number of the replica.
        replicas: How many there are.
        least: Samples that a part must have, 1 or 2.

    Example:
        >>> [share_of(range(5), replica, 2, least=2) for replica in (0, 1)]
        [(range(0, 5, 2), 1.2), (range(1, 5, 2), 0.8)]
        >>> [share_of(range(3), replica, 2, least=2) for replica in (0, 1)]
        [(range(0, 3), 2.0), (range(0, 2), 0.0)]
    """
    sharing = max(1, min(replicas, len(batch) // least))
    if replica >= sharing:
        return batch[:least], 0.0
    part = batch[replica::sharing]
    return part, len(part) * replicas / len(batch)


def spans_of(samples: int, batch_size: int) -> list[tuple[int, int]]:
    """Return where the batches of one pass begin and end; a single left-over sample joins the batch before it.

    Example:
        >>> spans_of(5, 2), spans_of(3, 1)
        ([(0, 2), (2, 5)], [(0, 1), (1, 2), (2, 3)])
    """
    starts = list(range(0, samples, batch_size))
    if len(starts) > 1 and batch_size > 1 and samples - starts[-1] == 1:
        starts.pop()
    return list(pairwise([*starts, samples]))


def take(table: Tensor, batch: Batch) -> Tensor:
    """Return the rows of a batch; not copied where they come as they lie.

    Example:
        >>> take(torch.tensor([4, 5, 6]), range(1, 3)), take(torch.tensor([4, 5, 6]), torch.tensor([2, 0]))
        (tensor([5, 6]), tensor([6, 4]))
    """
    return table[batch.start : batch.stop : batch.step] if isinstance(batch, range) else table[batch]
