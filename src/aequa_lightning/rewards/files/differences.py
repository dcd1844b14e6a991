"""Every difference between what a reward file holds and what it should hold."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# Largest deviation of statistics that another machine has taken, as a share of the largest of them.
ROUNDING = 0.01


def differences(found: Any, expected: Any, where: str = "") -> Iterator[str]:
    """Yield every difference between two contents of plain values and tensors, in words.

    Args:
        found: What a file holds.
        expected: What it should hold.
        where: Name of the part that is compared.

    Example:
        >>> list(differences({"epoch": 1, "note": "x"}, {"epoch": 0, "kind": "reward"}))
        ["lacks 'kind'", "holds 'note'", 'holds another epoch than was earned']
        >>> list(differences(torch.zeros(2), torch.zeros(3), "network.weight"))
        ['holds network.weight of shape (2,), which is not of its width']
    """
    if isinstance(expected, Mapping) and type(found) is dict:
        yield from (f"lacks {_joined(where, key)!r}" for key in expected if key not in found)
        yield from (f"holds {_joined(where, key)!r:.80}" for key in found if key not in expected)
        for key in expected:
            if key in found:
                yield from differences(found[key], expected[key], _joined(where, key))
    elif isinstance(expected, Tensor) and isinstance(found, Tensor):
        yield from _of_tensors(found, expected, where)
    elif type(found) is not type(expected) or found != expected:
        yield f"holds another {where} than was earned"


def _joined(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _of_tensors(found: Tensor, expected: Tensor, where: str) -> Iterator[str]:
    if type(found) is not Tensor or found.layout != torch.strided or found.dtype != expected.dtype:
        yield f"holds {where} as {found.dtype}, {found.layout}, not as {expected.dtype}"
    elif found.shape != expected.shape:
        yield f"holds {where} of shape {tuple(found.shape)}, which is not of its width"
    else:
        if not torch.equal(found, expected):
            yield f"holds another {where} than the width's part of the server's"
        if found.untyped_storage().nbytes() != found.nbytes:
            yield f"holds more behind {where} than its values"


def statistics_differ(found: Tensor, expected: Tensor, *, by_value: bool) -> bool:
    """Tell whether running statistics of a norm differ by more than the rounding of another machine.

    Args:
        found: Those of a file.
        expected: Those that were taken anew, or any of the right shape and type.
        by_value: Whether the values are compared, too.

    Example:
        >>> statistics_differ(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.001]), by_value=True)
        False
        >>> statistics_differ(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.001]), by_value=True)
        True
    """
    if type(found) is not Tensor or found.layout != torch.strided:
        return True
    if found.dtype != expected.dtype or found.shape != expected.shape or not torch.isfinite(found).all():
        return True
    if not by_value or not found.numel():
        return False
    if not found.is_floating_point():
        return not torch.equal(found, expected)
    return bool((found - expected).abs().max() > ROUNDING * expected.abs().max())
