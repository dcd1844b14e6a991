"""Withheld parameters in a file's bytes: what tells a leak from damage once a file is known not to be as earned."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aequa_lightning.slimmable import SlicePlan

# Bytes that are looked for at a time.
WORD = 8


def count_withheld(content: bytes, plan: SlicePlan, full: Mapping[str, Tensor]) -> int:
    """Count the places of withheld parameters whose values occur in a file's bytes, at any alignment.

    Args:
        content: The file.
        plan: What the width takes.
        full: The server's parameters, by name, in the types in which files hold them.
    """
    withheld = withheld_words(plan, full)
    # Numbers that training has left alone, such as a norm's 1.0, are on both sides, and prove nothing.
    own = b"".join(_bytes(value) for value in plan.extract(full).values())
    return count_words(content, withheld[~occurring(own, withheld)])


def withheld_words(plan: SlicePlan, full: Mapping[str, Tensor]) -> NDArray[np.uint64]:
    """Return the bytes of neighbouring parameters that a width does not take, eight at a time.

    A single float32 can occur in a file by chance; two neighbours together hardly can, and neither can one float64.

    Args:
        plan: What the width takes.
        full: The server's parameters, by name, in the types in which files hold them.

    Returns:
        64-bit words, (words,), each of as many neighbours as it has room for.

    Example:
        >>> plan = SlicePlan({"w": (slice(0, 2),)}, {"w": (2,)})
        >>> withheld_words(plan, {"w": torch.tensor([1.0, 2.0, 3.0, 4.0])}).view(np.float32).tolist()
        [3.0, 4.0]
    """
    outside = {name: torch.ones(full[name].shape, dtype=torch.bool) for name in plan.indices}
    plan.put(outside, {name: torch.zeros(plan.shapes[name], dtype=torch.bool) for name in outside})
    words = []
    for name, mark in outside.items():
        together = max(1, WORD // full[name].element_size())
        whole = mark.numel() // together * together
        values = full[name].detach().cpu().reshape(-1)[:whole].view(-1, together)
        outside_all = mark.reshape(-1)[:whole].view(-1, together).all(1) & (values != 0).all(1)
        words.append(np.frombuffer(_bytes(values[outside_all]), np.uint64))
    return np.concatenate(words)


def _bytes(value: Tensor) -> bytes:
    """Return the bytes of a tensor as files hold them; numpy does not know all of torch's types."""
    return value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()


def count_words(content: bytes, words: NDArray[np.uint64]) -> int:
    """Count how many of the words occur anywhere in a file's bytes, at any alignment.

    Args:
        content: The file.
        words: What to look for, (words,).

    Example:
        >>> needle = np.array([3.0, 4.0], np.float32).view(np.uint64)
        >>> count_words(b"x" + needle.tobytes(), needle), count_words(b"nothing of the kind", needle)
        (1, 0)
    """
    return int(occurring(content, words).sum())


def occurring(content: bytes, words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell which of the words occur anywhere in some bytes, at any alignment; (words,).

    Example:
        >>> words = np.array([1.0, 2.0, 3.0, 4.0], np.float32).view(np.uint64)
        >>> occurring(b"xyz" + words[1:].tobytes(), words).tolist()
        [False, True]
    """
    found = np.zeros(len(words), dtype=bool)
    for offset in range(WORD):
        count = (len(content) - offset) // WORD
        if count > 0:
            found |= np.isin(words, np.frombuffer(content, np.uint64, count, offset))
    return found
