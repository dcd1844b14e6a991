"""What is kept of each width: running statistics, and affine parameters where those are not shared."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import norm
from aequa_lightning.slimmable.subnetworks import SubNetwork
from aequa_lightning.slimmable.widths import Width


class StatisticsOfWidth(nn.Module):
    """The running statistics of one narrow sub-network, as buffers.

    Attributes:
        seen: Whether data have gone into them.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(_flat(name), tensor)
        self.seen = not norm.is_fresh(tensors)

    @property
    def named(self) -> dict[str, Tensor]:
        """The statistics by the names that they have in the network."""
        return {_dotted(name): tensor for name, tensor in self._buffers.items() if tensor is not None}


class WidthStatistics(nn.Module):
    """The banks of all narrow sub-networks that have one, by the channels that the sub-network keeps of each axis.

    Loading a checkpoint replaces them by those of the checkpoint, whatever the widths.
    """

    def of(self, narrow: SubNetwork, full: Mapping[str, Tensor]) -> StatisticsOfWidth:
        """Return the bank of a sub-network, a fresh one if it has none yet.

        Args:
            narrow: The sub-network, which must have statistics.
            full: The full network's parameters and buffers, by name.
        """
        key = _key(narrow.sizes)
        if key not in self._modules:
            self.add_module(key, StatisticsOfWidth(unseen(narrow, full)))
        return self._modules[key]  # type: ignore[return-value]

    def filling(self, narrow: SubNetwork, full: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the statistics of a sub-network, which data are about to go into; none where it has none.

        Args:
            narrow: The sub-network.
            full: The full network's parameters and buffers, by name.
        """
        if not narrow.statistics.shapes:
            return {}
        bank = self.of(narrow, full)
        bank.seen = True
        return bank.named

    def filled(self, narrow: SubNetwork, full: Mapping[str, Tensor], width: Width) -> Mapping[str, Tensor]:
        """Return the statistics of a sub-network, which must have seen data; none where it has none.

        Args:
            narrow: The sub-network.
            full: The full network's parameters and buffers, by name.
            width: What the sub-network was asked for as.

        Raises:
            InputError: When they have seen no data, but those of the full network have.
        """
        if not narrow.statistics.shapes:
            return {}
        known = self._modules.get(_key(narrow.sizes))
        if not isinstance(known, StatisticsOfWidth) or not (known.seen or _is_fresh(narrow, full)):
            raise InputError(
                f"width: the norm statistics of width {width} have seen no data; call "
                "recalibrate(batches, widths=[...]) before evaluating or handing out this width"
            )
        return known.named

    def forget(self) -> None:
        """Let every bank have seen nothing."""
        for bank in self._modules.values():
            assert isinstance(bank, StatisticsOfWidth)
            norm.reset(bank.named)
            bank.seen = False

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *others: object) -> None:
        found: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state_dict.items():
            if name.startswith(prefix):
                key, _, buffer = name.removeprefix(prefix).partition(".")
                found.setdefault(key, {})[_dotted(buffer)] = tensor
        device = next((buffer.device for buffer in self.buffers()), None)
        self._modules.clear()
        for key, tensors in found.items():
            for name in [name for name in tensors if name.endswith("running_mean")]:
                # Files of other libraries leave the counter out.
                tensors.setdefault(name.removesuffix("running_mean") + "num_batches_tracked", torch.tensor(0))
            # The module's own loading visits the children next and finds everything in place.
            self.add_module(
                key, StatisticsOfWidth({name: tensor.to(device, copy=True) for name, tensor in tensors.items()})
            )


class Affines(nn.Module):
    """Weights and biases of the norm layers that are private to a narrow sub-network of the grid."""

    def add(self, narrow: SubNetwork, full: Mapping[str, Tensor]) -> None:
        """Add those of a sub-network, which start as its part of the full network's.

        Args:
            narrow: The sub-network.
            full: The full network's parameters, by name.
        """
        start = narrow.private.extract(full)
        own = {_flat(name): nn.Parameter(part, full[name].requires_grad) for name, part in start.items()}
        self.add_module(_key(narrow.sizes), nn.ParameterDict(own))

    def get(self, sizes: Sequence[int]) -> dict[str, Tensor]:
        """Return those of a sub-network by the names that they have in the network, none where it has none."""
        own = self._modules.get(_key(sizes))
        return {} if own is None else {_dotted(name): tensor for name, tensor in own.named_parameters()}


def unseen(narrow: SubNetwork, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the statistics of a sub-network that has seen nothing, on the full network's device.

    Args:
        narrow: The sub-network.
        full: The full network's parameters and buffers, by name.
    """
    fresh = {name: full[name].new_empty(shape) for name, shape in narrow.statistics.shapes.items()}
    norm.reset(fresh)
    return fresh


def _is_fresh(narrow: SubNetwork, full: Mapping[str, Tensor]) -> bool:
    """Return whether no data have gone into the full network's statistics either."""
    return norm.is_fresh({name: full[name] for name in narrow.statistics.shapes})


def _key(sizes: Sequence[int]) -> str:
    return "_".join(map(str, sizes))


def _flat(name: str) -> str:
    return name.replace(".", "/")  # names of parameters and buffers must not have dots


def _dotted(name: str) -> str:
    return name.replace("/", ".")
