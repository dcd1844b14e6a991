"""Seeds that are derived from what a piece of work is, never from the process that does it."""

import hashlib
import pickle
import random

import numpy as np
import torch


def derive_seed(seed: int, *keys: int | str) -> int:
    """Derive an independent seed for one piece of work.

    Because a participant's randomness comes from ``(seed, round, participant)`` alone, the result of a run does not
    depend on the number of processes that did it, nor on their order.

    Args:
        seed: The run's seed.
        *keys: What the work is, such as ``"round", 3, "participant", 7``.

    Returns:
        An integer in [0, 2**63).

    Example:
        >>> derive_seed(0, "round", 1) == derive_seed(0, "round", 1)
        True
        >>> derive_seed(0, "round", 1) == derive_seed(0, "round", 2)
        False
    """
    digest = hashlib.blake2b(repr((seed, *keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def derive_generator(seed: int, *keys: int | str) -> torch.Generator:
    """Return a CPU generator seeded by :func:`derive_seed`.

    Example:
        >>> torch.rand(1, generator=derive_generator(0, "a")) == torch.rand(1, generator=derive_generator(0, "a"))
        tensor([True])
    """
    return torch.Generator().manual_seed(derive_seed(seed, *keys))


def position_of_other_generators() -> bytes:
    """Return the state of NumPy's and Python's generators as bytes, which are equal if nothing was drawn between.

    Example:
        >>> before = position_of_other_generators()
        >>> before == position_of_other_generators(), np.random.rand() < 1, before == position_of_other_generators()
        (True, True, False)
    """
    return pickle.dumps((random.getstate(), np.random.get_state()))


def seed_global_generators(seed: int, device: torch.device) -> None:
    """Seed all generators that a network or an augmentation may draw from: torch's, NumPy's and Python's.

    Seeds torch's generators of the CPU and of the process's own device. ``torch.manual_seed`` would seed all GPUs of
    the machine; and where a GPU exists that this process does not use, it queues every call with a stack trace, which
    takes a fifth of a millisecond and memory each time.

    Example:
        >>> seed_global_generators(0, torch.device("cpu"))
        >>> torch.rand(1)
        tensor([0.4963])
    """
    random.seed(seed)
    # NumPy's seed has 32 bits.
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
