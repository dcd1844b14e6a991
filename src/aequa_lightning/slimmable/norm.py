"""The norm layers of a network: their running statistics and affine parameters.

A narrow layer sees other activations than the full one, so its mean and variance differ; sharing them ruins the
narrow widths. Sources: Yu et al., "Slimmable Neural Networks", ICLR 2019 (switchable batch normalization: all private);
Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019, section 3 (statistics after
training).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from aequa_lightning.errors import InputError

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


def parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights and biases of all batch and instance norms in a module, by name."""
    return {
        f"{name}.{key}" if name else key: parameter
        for name, part in module.named_modules()
        if isinstance(part, Stateful)
        for key, parameter in part.named_parameters(recurse=False)
    }


def private_names(full: nn.Module, affine: str) -> frozenset[str]:
    """Return the names of the parameters of which every width has its own.

    Args:
        full: The full network.
        affine: ``"shared"`` or ``"private"``.

    Raises:
        InputError: When ``affine`` is neither, or there is nothing to be private.
    """
    if affine not in ("shared", "private"):
        raise InputError(f"affine: {affine!r} is unknown; choose 'shared' or 'private'")
    names = frozenset(parameters(full)) if affine == "private" else frozenset()
    if affine == "private" and not names:
        raise InputError(
            "affine: 'private' needs batch or instance norms with affine parameters; this network has none"
        )
    return names


def reset(tensors: Mapping[str, Tensor]) -> None:
    """Set running statistics to those of a layer that has seen nothing."""
    for name, tensor in tensors.items():
        tensor.fill_(1 if name.endswith("running_var") else 0)


def is_fresh(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether running statistics are those of a layer that has seen nothing.

    The values tell it, because a state dict may lack the counter ``num_batches_tracked``.

    Args:
        tensors: Running statistics, by buffer name.

    Example:
        >>> layer = nn.BatchNorm1d(2)
        >>> is_fresh(statistics(layer))
        True
        >>> layer.running_var[1] = 4
        >>> is_fresh(statistics(layer))
        False
    """
    return all(bool((tensor == (1 if name.endswith("running_var") else 0)).all()) for name, tensor in tensors.items())


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
