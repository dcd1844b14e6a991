"""Reads a model's optimizer and learning-rate scheduler from ``configure_optimizers``, and checks their options."""

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from aequa_lightning.errors import InputError
from aequa_lightning.modules.slimmable_module import SlimmableModule

# Largest finite float32: a step with a larger option would be infinite.
MAX_FLOAT32 = torch.finfo(torch.float32).max


@contextmanager
def refusing_bad_options() -> Iterator[None]:
    """Convert errors that torch raises for an option's value into :class:`InputError`."""
    try:
        yield
    except (ValueError, TypeError, ZeroDivisionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"optimizer or lr_scheduler: {error}.") from error


def configured_optimizers(classifier: SlimmableModule) -> tuple[Optimizer, LRScheduler | None]:
    """Return a model's optimizer and scheduler.

    Raises:
        InputError: An option is out of range, or :func:`unpack_optimizers` does not support the configuration.
    """
    with refusing_bad_options():
        return unpack_optimizers(classifier.configure_optimizers())


def check_schedule(classifier: SlimmableModule, rounds: int) -> None:
    """Check that a model's scheduler can be stepped for all rounds of a run, and that all options stay finite.

    Args:
        classifier: The model.
        rounds: Number of rounds; the scheduler is stepped after each.

    Raises:
        InputError: The scheduler ends earlier, or an option is not finite.
    """
    for number, groups in enumerate(options_by_round(*configured_optimizers(classifier), rounds), start=1):
        for options in groups:
            for key, value in options.items():
                if isinstance(value, float | Tensor) and not abs(float(value)) <= MAX_FLOAT32:
                    raise InputError(
                        f"optimizer or lr_scheduler: {key} is {float(value)} in round {number}; choose options "
                        "that stay finite."
                    )


def options_by_round(optimizer: Optimizer, scheduler: LRScheduler | None, rounds: int) -> list[list[dict[str, Any]]]:
    """Return an optimizer's options in each round; optimizer and scheduler are restored afterwards.

    Args:
        optimizer: The optimizer in its state before the first round.
        scheduler: Stepped after each round; None: all rounds have the same options.
        rounds: Number of rounds.

    Returns:
        For each round the options of each parameter group.

    Raises:
        InputError: The schedule ends before the rounds do.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        >>> [options[0]["lr"] for options in options_by_round(optimizer, scheduler, 3)], optimizer.param_groups[0]["lr"]
        ([1.0, 0.5, 0.25], 1.0)
    """
    if scheduler is None:
        return [options_of(optimizer)] * rounds
    # ``configure_optimizers`` may return the same objects in every call, so restore their state below.
    state, first = copy.deepcopy(scheduler.state_dict()), copy.deepcopy(options_of(optimizer))
    found = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        try:
            for _ in range(rounds):
                # A learning rate may be a tensor, which the scheduler changes in place: copy it.
                found.append(copy.deepcopy(options_of(optimizer)))
                scheduler.step()
        except Exception as error:
            raise InputError(
                f"lr_scheduler: {type(scheduler).__name__} cannot be stepped {rounds} times, once after each of "
                f"trainer.max_rounds: {error}"
            ) from error
    scheduler.load_state_dict(state)
    set_options(optimizer, first)
    return found


def options_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the options of each parameter group of an optimizer, learning rates included; without the parameters.

    Example:
        >>> options_of(torch.optim.SGD([torch.zeros(1)], lr=0.1))[0]["lr"]
        0.1
    """
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def set_options(optimizer: Optimizer, options: Sequence[Mapping[str, Any]]) -> None:
    """Set an optimizer's options to a result of :func:`options_of`."""
    for group, saved in zip(optimizer.param_groups, options, strict=True):
        group.update(saved)


def unpack_optimizers(configured: Any) -> tuple[Optimizer, LRScheduler | None]:
    """Return optimizer and scheduler from a result of ``configure_optimizers``, in any of Lightning's formats.

    Args:
        configured: An optimizer, a pair of lists, or a dictionary.

    Returns:
        The optimizer and the scheduler, which the engine steps once a round.

    Raises:
        InputError: There are several optimizers, the optimizer needs a closure or sparse gradients, or the scheduler
            needs a metric or another interval than one round.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> unpack_optimizers({"optimizer": optimizer}) == (optimizer, None)
        True
    """
    optimizer: Any
    scheduler: Any
    if isinstance(configured, Optimizer):
        optimizer, scheduler = configured, None
    elif isinstance(configured, dict):
        optimizer, scheduler = configured["optimizer"], configured.get("lr_scheduler")
    elif len(configured) == 2 and isinstance(configured[0], Sequence):
        if len(configured[0]) != 1 or len(configured[1]) > 1:
            raise InputError("optimizer: the engine trains with one optimizer and at most one lr_scheduler.")
        optimizer, scheduler = configured[0][0], next(iter(configured[1]), None)
    else:
        raise InputError(f"optimizer: {type(configured).__name__} with {len(configured)} entries; give one optimizer.")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InputError("optimizer: LBFGS computes the loss of a step several times; choose one that does so once.")
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise InputError("optimizer: SparseAdam needs sparse gradients, but the gradients are dense; choose Adam.")
    if isinstance(scheduler, dict):
        if scheduler.get("interval", "epoch") != "epoch" or scheduler.get("frequency", 1) != 1:
            raise InputError(
                f"lr_scheduler: interval={scheduler.get('interval', 'epoch')!r} and frequency="
                f"{scheduler.get('frequency', 1)} ask for another pace, but a schedule is stepped once after every "
                "round; leave both out and count in rounds."
            )
        scheduler = scheduler["scheduler"]
    if isinstance(scheduler, ReduceLROnPlateau):
        raise InputError(f"lr_scheduler: {type(scheduler).__name__} waits for a metric; choose one that counts rounds.")
    return optimizer, scheduler
