"""A least-recently-used cache of participants' samples on the device."""

from collections import OrderedDict

import torch
from torch import Tensor

from aequa_lightning.data import CollaborativeData

# Share of the device's free memory that the cache may use by default.
MEMORY_SHARE = 0.5


class SampleCache:
    """Returns participants' samples on the device and caches the most recently used ones there.

    On the CPU no copy is needed, and by default nothing is cached.

    Args:
        data: The participants' data.
        device: Device of the returned samples.
        limit: Largest size of the cache in bytes; None: half of the free memory of a GPU, 0 on the CPU.
    """

    def __init__(self, data: CollaborativeData, device: torch.device, *, limit: int | None = None) -> None:
        self._data, self._device = data, device
        if limit is None:
            limit = int(MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0
        self._limit, self._bytes = limit, 0
        self._kept: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a participant's inputs and targets on the device."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        inputs, targets = (tensor.to(self._device) for tensor in self._data.participant(index).tensors)
        size = inputs.nbytes + targets.nbytes
        if size > self._limit:
            return inputs, targets
        self._kept[index] = inputs, targets
        self._bytes += size
        while self._bytes > self._limit:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= sum(tensor.nbytes for tensor in dropped)
        return inputs, targets
