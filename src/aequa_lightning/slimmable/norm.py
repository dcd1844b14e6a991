"""What the norm layers have of each width: running statistics, and affine parameters where those are not shared.

A narrow layer sees other activations than the full one, so its mean and variance differ; sharing them ruins the
narrow widths. Sources: Yu et al., "Slimmable Neural Networks", ICLR 2019 (switchable batch normalization: all private);
Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019, section 3 (statistics after
training).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

Stateful = nn.modules.batchnorm._NormBase
"""Batch and instance norms: the layers that may keep running statistics."""


def statistics(module: nn.Module) -> dict[str, Tensor]:
    """Return the running statistics of all norm layers in a module, by buffer name."""
    return {
        f"{name}.{key}" if name else key: buffer
        for name, part in module.named_modules()
        if isinstance(part, Stateful) and part.running_mean is not None
        for key, buffer in part.named_buffers(recurse=False)
    }


def affine(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights and biases of all batch and instance norms in a module, by name."""
    return {
        f"{name}.{key}" if name else key: parameter
        for name, part in module.named_modules()
        if isinstance(part, Stateful)
        for key, parameter in part.named_parameters(recurse=False)
    }


def reset(tensors: Mapping[str, Tensor]) -> None:
    """Set running statistics to those of a layer that has seen nothing."""
    for name, tensor in tensors.items():
        tensor.fill_(1 if name.endswith("running_var") else 0)


@contextmanager
def cumulative(module: nn.Module) -> Iterator[None]:
    """Let the norm layers, and nothing else, compute as in training, and average their statistics over the batches.

    Modes and momenta are as before afterwards.
    """
    modes = {part: part.training for part in module.modules()}
    momenta = {part: part.momentum for part in modes if isinstance(part, Stateful) and part.running_mean is not None}
    try:
        for part in modes:
            part.training = part in momenta
            if part in momenta:
                part.momentum = None
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        for part, momentum in momenta.items():
            part.momentum = momentum


class Bank(nn.Module):
    """The running statistics of one narrow sub-network, as buffers.

    Attributes:
        seen: Whether data have gone into them.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(_flat(name), tensor)
        counts = [tensor for name, tensor in tensors.items() if name.endswith("num_batches_tracked")]
        self.seen = any(int(count) > 0 for count in counts)

    @property
    def named(self) -> dict[str, Tensor]:
        """The statistics by the names that they have in the network."""
        return {_dotted(name): tensor for name, tensor in self._buffers.items() if tensor is not None}


class Banks(nn.Module):
    """The banks of all narrow sub-networks that have one, by the channels that the sub-network keeps of each axis.

    Loading a checkpoint replaces them by those of the checkpoint, whatever the widths.
    """

    def get(self, sizes: Sequence[int]) -> Bank | None:
        """Return a bank, or None where there is none."""
        return self._modules.get(_key(sizes))  # type: ignore[return-value]

    def add(self, sizes: Sequence[int], bank: Bank) -> None:
        """Add a bank."""
        self.add_module(_key(sizes), bank)

    def forget(self) -> None:
        """Let every bank have seen nothing."""
        for bank in self._modules.values():
            assert isinstance(bank, Bank)
            reset(bank.named)
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
            # The module's own loading visits the children next and finds everything in place.
            self.add_module(key, Bank({name: tensor.to(device, copy=True) for name, tensor in tensors.items()}))


class Affines(nn.Module):
    """Weights and biases of the norm layers that are private to a narrow sub-network of the grid."""

    def add(self, sizes: Sequence[int], tensors: Mapping[str, nn.Parameter]) -> None:
        """Add those of a sub-network, by the names that they have in the network."""
        self.add_module(_key(sizes), nn.ParameterDict({_flat(name): tensor for name, tensor in tensors.items()}))

    def get(self, sizes: Sequence[int]) -> dict[str, Tensor]:
        """Return those of a sub-network, none where it has none."""
        own = self._modules.get(_key(sizes))
        return {} if own is None else {_dotted(name): tensor for name, tensor in own.named_parameters()}


def _key(sizes: Sequence[int]) -> str:
    return "_".join(map(str, sizes))


def _flat(name: str) -> str:
    return name.replace(".", "/")  # names of parameters and buffers must not have dots


def _dotted(name: str) -> str:
    return name.replace("/", ".")
