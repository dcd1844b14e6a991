"""Running statistics of each width, and the affine parameters of norms that widths do not share."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable import norm
from aequa_lightning.slimmable.subnetworks import SubNetwork
from aequa_lightning.slimmable.widths import Width


class RunningStatistics(nn.Module):
    """The running statistics of one narrow sub-network, as buffers.

    Attributes:
        seen: Whether they were computed from data.
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
    """The running statistics of all narrow sub-networks that have some, by the channels kept of each axis.

    Loading a checkpoint replaces all of them, also where it holds other widths.
    """

    def get_or_add(self, narrow: SubNetwork, full: Mapping[str, Tensor]) -> RunningStatistics:
        """Return the statistics of a sub-network; they are created fresh at the first call.

        Args:
            narrow: The sub-network, which must have statistics.
            full: The full network's parameters and buffers, by name.
        """
        key = _key(narrow.sizes)
        if key not in self._modules:
            self.add_module(key, RunningStatistics(fresh_statistics_of(narrow, full)))
        return self._modules[key]  # type: ignore[return-value]

    def for_update(self, narrow: SubNetwork, full: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the statistics of a sub-network for training or recalibration, which update them; empty without norms.

        Args:
            narrow: The sub-network.
            full: The full network's parameters and buffers, by name.
        """
        if not narrow.statistics.shapes:
            return {}
        statistics = self.get_or_add(narrow, full)
        statistics.seen = True
        return statistics.named

    def for_evaluation(self, narrow: SubNetwork, full: Mapping[str, Tensor], width: Width) -> Mapping[str, Tensor]:
        """Return the statistics of a sub-network for evaluation; empty without norms.

        Args:
            narrow: The sub-network.
            full: The full network's parameters and buffers, by name.
            width: The width that was asked for, for the message.

        Raises:
            InputError: When they have seen no data, but those of the full network have.
        """
        if not narrow.statistics.shapes:
            return {}
        known = self._modules.get(_key(narrow.sizes))
        if not isinstance(known, RunningStatistics) or not (known.seen or _is_fresh(narrow, full)):
            raise InputError(
                f"width: the norm statistics of width {width} have seen no data; call "
                "recalibrate(batches, widths=[...]) before evaluating or handing out this width"
            )
        return known.named

    def reset(self) -> None:
        """Reset all statistics to those of a network that has seen no data."""
        for statistics in self._modules.values():
            assert isinstance(statistics, RunningStatistics)
            norm.reset(statistics.named)
            statistics.seen = False

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
            # torch loads the children next, and needs them to exist with the right shapes.
            self.add_module(
                key, RunningStatistics({name: tensor.to(device, copy=True) for name, tensor in tensors.items()})
            )


class Affines(nn.Module):
    """Weights and biases of the norm layers that are private to a narrow sub-network of the grid."""

    def add(self, narrow: SubNetwork, full: Mapping[str, Tensor]) -> None:
        """Add the parameters of a sub-network, initialised with its part of the full network's.

        Args:
            narrow: The sub-network.
            full: The full network's parameters, by name.
        """
        start = narrow.private.extract(full)
        own = {_flat(name): nn.Parameter(part, full[name].requires_grad) for name, part in start.items()}
        self.add_module(_key(narrow.sizes), nn.ParameterDict(own))

    def get(self, sizes: Sequence[int]) -> dict[str, Tensor]:
        """Return the parameters of a sub-network by their names in the network; empty when it has none of its own."""
        own = self._modules.get(_key(sizes))
        return {} if own is None else {_dotted(name): tensor for name, tensor in own.named_parameters()}


def fresh_statistics_of(narrow: SubNetwork, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return statistics of a sub-network that has seen no data, on the full network's device.

    Args:
        narrow: The sub-network.
        full: The full network's parameters and buffers, by name.
    """
    fresh = {name: full[name].new_empty(shape) for name, shape in narrow.statistics.shapes.items()}
    norm.reset(fresh)
    return fresh


def _is_fresh(narrow: SubNetwork, full: Mapping[str, Tensor]) -> bool:
    """Return whether the full network's statistics have seen no data either."""
    return norm.is_fresh({name: full[name] for name in narrow.statistics.shapes})


def _key(sizes: Sequence[int]) -> str:
    return "_".join(map(str, sizes))


def _flat(name: str) -> str:
    return name.replace(".", "/")  # names of parameters and buffers must not have dots


def _dotted(name: str) -> str:
    return name.replace("/", ".")
