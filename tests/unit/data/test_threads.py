"""What is measured of data does not depend on how many threads whoever asks first happens to have."""

import torch

from aequa_lightning.data.loaded import Split
from aequa_lightning.data.module import CollaborativeData
from aequa_lightning.runtime.process_settings import thread_count


class Noise(CollaborativeData):
    """Enough numbers for a sum to be divided among threads."""

    def __init__(self) -> None:
        super().__init__(participants=2)
        self.num_classes, self.input_shape = 2, (1, 20, 20)

    def load(self) -> tuple[Split, Split]:
        generator = torch.Generator().manual_seed(0)
        inputs = 1e3 + torch.randn(2000, *self.input_shape, generator=generator)
        part = Split(inputs, torch.arange(2000) % 2)
        return part, part


def measured(threads: int) -> object:
    data = Noise()
    with thread_count(threads):
        data.setup("fit")
    return data.mean, data.std


def test_data_means_and_deviations_are_the_same_bits() -> None:
    assert len({measured(threads) for threads in (1, 2, 3, 5)}) == 1
