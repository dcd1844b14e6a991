"""Seeds that depend on what is done, never on who does it."""

import hashlib

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
