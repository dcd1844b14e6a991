import pytest
import torch

from aequa_lightning.data import DigitsData
from aequa_lightning.data.partition import QuantityImbalance
from aequa_lightning.engine.local.sample_cache import SampleCache

BYTES = 64 * 4 + 8  # of a digit with its class


class Counted(DigitsData):
    def __init__(self) -> None:
        super().__init__(participants=4, train_samples=400, partition=QuantityImbalance(share=0.4, owners=1))
        self.asked: list[int] = []

    def participant(self, number: int) -> torch.utils.data.TensorDataset:
        self.asked.append(number)
        return super().participant(number)


@pytest.mark.parametrize(("room", "asked"), [(0, [0, 1, 0, 2, 0, 1]), (2, [0, 1, 2, 1]), (4, [0, 1, 2])])
def test_sample_cache_keeps_the_latest_that_fit(room: int, asked: list[int]) -> None:
    data = Counted()
    size = max(len(data.participant(index)) for index in range(4))
    data.asked.clear()
    resident = SampleCache(data, torch.device("cpu"), limit=room * size * BYTES)
    for index in (0, 1, 0, 2, 0, 1):
        inputs, targets = resident[index]
        expected = DigitsData.participant(data, index).tensors
        assert torch.equal(inputs, expected[0])
        assert torch.equal(targets, expected[1])
    assert data.asked == asked


def test_sample_cache_is_not_emptied_for_one_that_does_not_fit() -> None:
    data = Counted()
    large, small = 0, 1
    assert len(data.participant(large)) > len(data.participant(small))
    resident = SampleCache(data, torch.device("cpu"), limit=len(data.participant(small)) * BYTES)
    data.asked.clear()
    for index in (small, large, small):
        resident[index]
    assert data.asked == [small, large]
