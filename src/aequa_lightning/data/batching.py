"""A batch sampler that leaves no batch of a single sample."""

from collections.abc import Iterator

from torch.utils.data import BatchSampler
from typing_extensions import override


class NoSingleSampleBatches(BatchSampler):
    """Batches without a last one of a single sample, which norm layers cannot normalise: it joins the batch before it.

    The arguments are those of ``torch.utils.data.BatchSampler``. With ``batch_size=1`` all batches have one sample.

    Example:
        >>> list(NoSingleSampleBatches(range(5), 2, drop_last=False))
        [[0, 1], [2, 3, 4]]
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
