import pytest
from torch.utils.data import BatchSampler, SequentialSampler

from aequa_lightning.data import DigitsData
from aequa_lightning.data.batching import NoSingleSampleBatches


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize("samples", [1, 2, 4, 5, 8, 9])
def test_batching_batches_are_those_of_torch_but_for_a_single_sample_at_the_end(
    samples: int, batch_size: int, drop_last: bool
) -> None:
    sampler = SequentialSampler(range(samples))
    found = NoSingleSampleBatches(sampler, batch_size, drop_last)
    expected = list(BatchSampler(sampler, batch_size, drop_last))
    if len(expected) > 1 and batch_size > 1 and len(expected[-1]) == 1:
        expected[-2:] = [expected[-2] + expected[-1]]
    assert list(found) == expected
    assert len(found) == len(expected)


def test_batching_evaluation_never_yields_a_single_sample() -> None:
    data = DigitsData(participants=2, train_samples=81)
    data.setup()
    for size in (2, 3, 4, 5, 7, 9, 16):
        data.batch_size = size
        for loader, part in ((data.val_dataloader(), data.validation()), (data.test_dataloader(), data.test())):
            sizes = [len(targets) for _, targets in loader]
            assert min(sizes) > 1
            assert sum(sizes) == len(part)
