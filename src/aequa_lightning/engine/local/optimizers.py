"""The optimizer and the scheduler that a model asks for, in any form of Lightning's."""

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
from aequa_lightning.modules.classifier import SlimmableClassifier

# Of what a parameter can hold: a step with a larger option is infinite.
LARGEST = torch.finfo(torch.float32).max


@contextmanager
def refusing_bad_options() -> Iterator[None]:
    """Turn what torch raises of an option's value into bad input."""
    try:
        yield
    except (ValueError, TypeError, ZeroDivisionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"optimizer or lr_scheduler: {error}.") from error


def configured_optimizers(classifier: SlimmableClassifier) -> tuple[Optimizer, LRScheduler | None]:
    """Return a model's optimizer and scheduler.

    Raises:
        InputError: An option is out of range, or :func:`unpack_optimizers` does not know what to do with them.
    """
    with refusing_bad_options():
        return unpack_optimizers(classifier.configure_optimizers())


def check_schedule(classifier: SlimmableClassifier, rounds: int) -> None:
    """Prove that a model's scheduler lasts for a run.

    Args:
        classifier: The model.
        rounds: Of the run; the scheduler is stepped after each.

    Raises:
        InputError: It does not.
    """
    for number, groups in enumerate(options_by_round(*configured_optimizers(classifier), rounds), start=1):
        for options in groups:
            for key, value in options.items():
                if isinstance(value, float | Tensor) and not abs(float(value)) <= LARGEST:
                    raise InputError(
                        f"optimizer or lr_scheduler: {key} is {float(value)} in round {number}; choose options "
                        "that stay finite."
                    )


def options_by_round(optimizer: Optimizer, scheduler: LRScheduler | None, rounds: int) -> list[list[dict[str, Any]]]:
    """Return an optimizer's options in each of some rounds, which a scheduler sets; both stay as they are.

    Args:
        optimizer: The optimizer, as in the first round.
        scheduler: Is stepped after each round; None: all rounds have the same options.
        rounds: How many there are.

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
    # A model may hand out the same objects again.
    state, first = copy.deepcopy(scheduler.state_dict()), copy.deepcopy(options_of(optimizer))
    found = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        try:
            for _ in range(rounds):
                # A rate may be a tensor, which the scheduler overwrites.
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
    """Return the options of each group of an optimizer's parameters: what a scheduler sets, and all others.

    Example:
        >>> options_of(torch.optim.SGD([torch.zeros(1)], lr=0.1))[0]["lr"]
        0.1
    """
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def set_options(optimizer: Optimizer, options: Sequence[Mapping[str, Any]]) -> None:
    """Give an optimizer back what :func:`options_of` returned."""
    for group, saved in zip(optimizer.param_groups, options, strict=True):
        group.update(saved)


def unpack_optimizers(configured: Any) -> tuple[Optimizer, LRScheduler | None]:
    """Read what ``configure_optimizers`` returned, in any form of Lightning's with one optimizer.

    Args:
        configured: An optimizer, a pair of lists, or a dictionary.

    Returns:
        The optimizer and the scheduler, which the engine steps once a round.

    Raises:
        InputError: There are several optimizers, one that computes losses anew, or a scheduler that waits for a metric
            or is stepped more or less often than once a round.

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
        raise InputError("optimizer: SparseAdam takes sparse gradients alone, and these are dense; choose Adam.")
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
