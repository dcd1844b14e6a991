"""The norm layers of a network: their running statistics and affine parameters.

A narrow layer sees other activations than the full one, so its mean and variance differ; sharing them ruins the
narrow widths. Sources: Yu et al., "Slimmable Neural Networks", ICLR 2019 (switchable batch normalization: all private);
Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019, section 3 (statistics after
training).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from aequa_lightning.errors import InputError
from aequa_lightning.runtime.process_settings import evaluating, keeping_modes

RunningNorm = nn.modules.batchnorm._NormBase
"""Batch and instance norms: the layers that may keep running statistics."""


def statistics(module: nn.Module) -> dict[str, Tensor]:
    """Return the running statistics of all norm layers in a module, by buffer name."""
    return {
        f"{name}.{key}" if name else key: buffer
        for name, part in module.named_modules()
        if isinstance(part, RunningNorm) and part.running_mean is not None
        for key, buffer in part.named_buffers(recurse=False)
    }


def check_modes(network: nn.Module) -> None:
    """Check that norm layers with running statistics are in training mode.

    Raises:
        InputError: One is in evaluation mode; every width would train with the statistics of the full width.
    """
    for name, part in network.named_modules():
        if isinstance(part, RunningNorm) and part.running_mean is not None and not part.training:
            raise InputError(
                f"network: norm layer {name!r} is in evaluation mode, and the statistics that it would keep fit the "
                "full width only; call .train() on it, or put torchvision.ops.FrozenBatchNorm2d in its place, whose "
                "numbers are constants and are cut like weights"
            )


def parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights and biases of all batch and instance norms in a module, by name."""
    return {
        f"{name}.{key}" if name else key: parameter
        for name, part in module.named_modules()
        if isinstance(part, RunningNorm)
        for key, parameter in part.named_parameters(recurse=False)
    }


def private_names(full: nn.Module, affine: str) -> frozenset[str]:
    """Return the names of the parameters that every width has for itself.

    Args:
        full: The full network.
        affine: ``"shared"`` or ``"private"``.

    Raises:
        InputError: When ``affine`` is neither, or no norm layer has affine parameters.
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
    """Set running statistics to those of a layer that has seen no data: mean 0, variance 1, count 0."""
    for name, tensor in tensors.items():
        tensor.fill_(1 if name.endswith("running_var") else 0)


def is_fresh(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether running statistics are those of a layer that has seen no data.

    Their values decide, because a state dict may lack the counter ``num_batches_tracked``.

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
def averaging_statistics(module: nn.Module) -> Iterator[None]:
    """Put the norm layers, and nothing else, into training mode with statistics averaged over the batches.

    Modes and momenta are restored afterwards.
    """
    parts = list(module.modules())
    momenta = {part: part.momentum for part in parts if isinstance(part, RunningNorm) and part.running_mean is not None}
    with keeping_modes(module):
        try:
            for part in parts:
                part.training = part in momenta
                if part in momenta:
                    part.momentum = None
            yield
        finally:
            for part, momentum in momenta.items():
                part.momentum = momentum


@torch.no_grad()
def smallest_batch(network: nn.Module, example_input: Tensor) -> int:
    """Return the least samples of a training batch: 2 where a batch norm has one value per channel and sample.

    Args:
        network: Any network; it computes once, in evaluation mode.
        example_input: A batch that it can compute with.

    Example:
        >>> smallest_batch(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), torch.zeros(1, 3))
        2
        >>> smallest_batch(nn.BatchNorm2d(3), torch.zeros(1, 3, 8, 8))
        1
    """
    values: list[int] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values.append(inputs[0][:1, 0].numel())

    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return 1
    handles = [part.register_forward_pre_hook(note) for part in norms]
    try:
        sample = example_input[:1].to(next(network.parameters()).device)
        with evaluating(network):
            # Norms without running statistics normalise by the batch in evaluation too.
            network(torch.cat([sample, sample]))
    finally:
        for handle in handles:
            handle.remove()
    return 2 if 1 in values else 1


def without_single_samples(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield batches of inputs so that none has a single sample, which a norm layer may not be able to normalise.

    A batch of one joins its neighbour. A sample that is the only one of all is given twice.

    Example:
        >>> [len(batch) for batch in without_single_samples(torch.zeros(7, 2).split(3))]
        [3, 4]
        >>> [len(batch) for batch in without_single_samples(torch.zeros(5, 2).split(1))]
        [2, 3]
        >>> [len(batch) for batch in without_single_samples([torch.zeros(1, 2)])]
        [2]
    """
    ready: Tensor | None = None
    single: Tensor | None = None
    for batch in batches:
        if single is not None:
            batch, single = torch.cat([single, batch]), None
        if len(batch) == 1:
            single = batch
            continue
        if ready is not None:
            yield ready
        ready = batch
    if ready is None:
        if single is not None:
            yield torch.cat([single, single])
    else:
        yield ready if single is None else torch.cat([ready, single])
