"""Batches of a data loader."""

from collections.abc import Iterator

from torch.utils.data import BatchSampler
from typing_extensions import override


class BatchesOfSeveral(BatchSampler):
    """Batches of which the last takes in a single left-over sample: norm layers cannot normalise one sample alone.

    The arguments are those of ``torch.utils.data.BatchSampler``. Batches of one may be asked for.

    Example:
        >>> list(BatchesOfSeveral(range(5), 2, drop_last=False)), list(BatchesOfSeveral(range(2), 1, drop_last=False))
        ([[0, 1], [2, 3, 4]], [[0], [1]])
    """

    @override
    def __iter__(self) -> Iterator[list[int]]:
        held: list[int] = []
        for batch in super().__iter__():
            if held and len(batch) == 1 < self.batch_size:
                batch = held + batch
            elif held:
                yield held
            held = batch
        if held:
            yield held

    @override
    def __len__(self) -> int:
        samples, count = len(self.sampler), super().__len__()  # type: ignore[arg-type]
        joins = not self.drop_last and count > 1 and samples % self.batch_size == 1 < self.batch_size
        return count - joins
