"""A GPU that is not there: tensors of the CPU, of which some are taken to lie on it."""

from typing import Any

import pytest
import torch
from lightning.fabric.accelerators.cpu import CPUAccelerator
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda:0")
# They bring numbers from one device to another, or take indices from the CPU.
CROSSING = {"copy_", "_to_copy", "index", "index_put_", "_index_put_impl_"}


class PretendedGPU(TorchDispatchMode):
    """Within it whatever is moved to ``cuda:0``, and what is computed from that, says that it is there.

    What would fail on a GPU fails: an operation on tensors of both devices, and NumPy's view of the other memory. All
    is computed on the CPU. A number that C++ code makes by itself counts as the CPU's, which is true of few operations.

    Args:
        monkeypatch: Takes back in the end what is put in the place of torch's own functions.

    Attributes:
        waits: How many times the processor has waited for the GPU so far.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        # Held for ever, so that no new storage has an old one's address.
        self._storages: dict[int, Any] = {}
        self.waits = 0
        of_tensor, tensor, numpy = torch.Tensor.device, torch.tensor, torch.Tensor.numpy

        def view(self_: Tensor, **options: Any) -> Any:
            assert not self.holds(self_), "NumPy cannot see the GPU's memory"
            return numpy(self_, **options)

        def make(data: Any, *, device: Any = None, **options: Any) -> Tensor:
            made = tensor(data, **options)
            return made if device is None else made.to(device)

        replaced = property(lambda self_: GPU if self.holds(self_) else of_tensor.__get__(self_))
        monkeypatch.setattr(torch.Tensor, "device", replaced)
        monkeypatch.setattr(torch.Tensor, "to", self._moving(torch.Tensor.to))
        monkeypatch.setattr(torch.Tensor, "cpu", lambda self_: self_.to("cpu"))
        monkeypatch.setattr(torch.Tensor, "numpy", view)
        monkeypatch.setattr(torch, "tensor", make)
        monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
        monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: None)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**30))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "none")
        monkeypatch.setattr(CPUAccelerator, "setup_device", lambda *_: None)

    def holds(self, tensor: Tensor) -> bool:
        """Tell whether a tensor lies on the GPU."""
        return not tensor.is_meta and tensor.untyped_storage()._cdata in self._storages

    def put(self, tensor: Tensor) -> Tensor:
        """Let a tensor lie on the GPU."""
        if not tensor.is_meta:
            self._storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.removeprefix("aten::")
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and not leaf.is_meta]
        here = [tensor for tensor in given if not self.holds(tensor)]
        on_gpu = len(here) < len(given)
        # A single number of the CPU goes along with the operation.
        if on_gpu and name not in CROSSING and any(tensor.ndim for tensor in here):
            raise RuntimeError(f"{func} on tensors of both devices: {[(tuple(t.shape), t.device) for t in given]}")
        if on_gpu and name in ("_local_scalar_dense", "nonzero", "equal"):
            self.waits += 1
        if (
            name.startswith("index")
            and self.holds(args[0])
            and any(t is not None and not self.holds(t) for t in args[1])
        ):
            self.waits += 1
        if name == "copy_":
            on_gpu = self.holds(args[0])
            self.waits += on_gpu != self.holds(args[1])
        if kwargs.get("device") is not None and torch.device(kwargs["device"]).type != "meta":
            on_gpu |= torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = torch.device("cpu")
        result = func(*args, **kwargs)
        for leaf in tree_leaves(result) if on_gpu else ():
            if isinstance(leaf, Tensor) and not any(leaf is tensor for tensor in here):
                self.put(leaf)
        return result

    def _moving(self, convert: Any) -> Any:
        def to(
            self_: Tensor,
            *args: Any,
            device: Any = None,
            dtype: Any = None,
            non_blocking: bool = False,
            copy: bool = False,
        ) -> Tensor:
            for argument in args:
                if isinstance(argument, Tensor):
                    device, dtype = argument.device, argument.dtype
                elif isinstance(argument, torch.dtype):
                    dtype = argument
                elif isinstance(argument, str | torch.device):
                    device = torch.device(argument)
            source, target = self_.device.type, torch.device(self_.device if device is None else device).type
            if source == target:
                return convert(self_, dtype=dtype or self_.dtype, copy=copy)
            if "meta" in (source, target):
                return convert(self_, target, dtype=dtype or self_.dtype)
            self.waits += source == "cuda" or not non_blocking
            # Under the mode a copy of what is on the GPU would be there, too.
            with torch.utils._python_dispatch._disable_current_modes():
                moved = convert(self_, dtype=dtype or self_.dtype, copy=True)
            return self.put(moved) if target == "cuda" else moved

        return to
