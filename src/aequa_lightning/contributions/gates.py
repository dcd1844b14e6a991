"""Gates before valuation: updates that no measure should be asked about, and identities that are one.

Measures by direction give the highest score to whoever sends an old aggregate back, and most measures pay a copied data
set twice. The former holds nothing new, the latter shows in the cosines of updates with each other. What takes several
rounds to be found is in ``evidence``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from aequa_lightning.contributions.evidence import FEWEST, TO_DEVIATION
from aequa_lightning.contributions.novelty import NOTHING_NEW
from aequa_lightning.errors import InputError


@dataclass(frozen=True)
class Gates:
    """What the gates found, one entry per participant.

    Attributes:
        non_finite: The update holds NaN or infinity.
        null: The update is zero, or next to nothing beside the median.
        scaled: The update is far longer than those of the others.
        replay: The update holds nothing but what everybody knew.
        group: Identity: participants with the same number sent the same update up to its length.
    """

    non_finite: tuple[bool, ...]
    null: tuple[bool, ...]
    scaled: tuple[bool, ...]
    replay: tuple[bool, ...]
    group: tuple[int, ...]

    def admitted(self) -> list[bool]:
        """Return who may be valued: neither non-finite, null nor a replay. Scaled ones should be clipped first."""
        barred = zip(self.non_finite, self.null, self.replay, strict=True)
        return [not any(reasons) for reasons in barred]

    def remarks(self) -> list[str]:
        """Return what was found about each participant, in words; an empty string where nothing was."""
        names = ("non_finite", "null", "scaled", "replay")
        found = []
        for index, group in enumerate(self.group):
            remarks = [name for name in names if getattr(self, name)[index]]
            clones = [other for other, its in enumerate(self.group) if its == group and other != index]
            found.append("; ".join(remarks + ([f"clone of {', '.join(map(str, clones))}"] if clones else [])))
        return found


def examine(
    gram: Tensor,
    new: Tensor | None = None,
    *,
    work: Tensor | None = None,
    held: Tensor | None = None,
    clone_cosine: float = 0.99,
    null_ratio: float = 1e-3,
) -> Gates:
    """Examine one round's updates through their inner products.

    Args:
        gram: Inner products of all pairs of updates, (N, N); non-finite entries mark non-finite updates.
        new: Share of each update's squared length that lies outside of what everybody knew, (N,); None: all of it.
        work: Local work behind each update, such as its number of batches, (N,), above 0; None: all alike. More work
            makes a longer update, so one is scaled only when it is long for its work, too.
        held: Number of parameters that each participant holds, (N,); None: all alike. Lengths are compared by the root
            of the mean square.
        clone_cosine: A cosine between two updates above this makes them one identity.
        null_ratio: An update shorter than this share of the median length is null.

    An update is scaled if the logarithm of its length lies above the median by more than three deviations, which the
    median absolute deviation estimates, and if it is more than twice as long as the median. Of fewer than four updates
    none is.

    Raises:
        InputError: When the shapes do not fit.

    Example:
        >>> updates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
        >>> gates = examine(updates @ updates.T, new=torch.tensor([0.0, 0.9, 0.9, 0.0]))
        >>> gates.remarks()
        ['replay', 'clone of 2', 'clone of 1', 'null']
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or (new is not None and new.shape != gram.shape[:1]):
        raise InputError(f"a Gram matrix of shape {tuple(gram.shape)} is not square, or shares do not fit it.")
    gram = gram.double().cpu()
    lengths = gram.diagonal().clamp(min=0).sqrt()
    finite = lengths.isfinite()
    sizes = lengths if held is None else lengths / held.double().cpu().sqrt()
    paces = sizes if work is None else sizes / work.double().cpu()
    moving = finite & (lengths > 0)
    null = finite & (lengths <= null_ratio * _median(lengths[moving]))
    scaled = moving.clone()
    for compared in (sizes, paces):
        scaled &= _far_above(compared, moving)
    replay = torch.zeros_like(finite) if new is None else new.cpu() < NOTHING_NEW
    usable = finite & ~null
    cosines = torch.where(usable[:, None] & usable, gram / (lengths[:, None] * lengths), 0.0)
    return Gates(
        tuple((~finite).tolist()),
        tuple(null.tolist()),
        tuple(scaled.tolist()),
        tuple((replay & usable).tolist()),
        tuple(_components(cosines > clone_cosine)),
    )


def merge_clones(weights: Tensor, group: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Make one player of each identity: the weighted mean of its updates, at its joint weight.

    Args:
        weights: Aggregation weights, (N,), not negative.
        group: Identity of each participant, 0..G - 1.

    Returns:
        The mixing matrix M, (G, N), and the joint weights, (G,), float64. With updates U and Gram matrix K, the
        players' are M U and M K M'; their aggregate is that of the participants.

    Example:
        >>> mixing, joint = merge_clones(torch.tensor([0.5, 0.375, 0.125]), (0, 1, 1))
        >>> mixing.tolist(), joint.tolist()
        ([[1.0, 0.0, 0.0], [0.0, 0.75, 0.25]], [0.5, 0.5])
    """
    membership = torch.nn.functional.one_hot(torch.tensor(group, device=weights.device)).double().T
    weighted = membership * weights.double()
    joint = weighted.sum(dim=1)
    # Identities without any weight are averaged evenly; they change no aggregate.
    mixing = torch.where(
        joint[:, None] > 0, weighted / joint[:, None], membership / membership.sum(dim=1, keepdim=True)
    )
    return mixing, joint


def share_within(values: Tensor, group: tuple[int, ...]) -> Tensor:
    """Split the value of each identity evenly among those who share it.

    Args:
        values: Value of each identity, (G,).
        group: Identity of each participant.

    Returns:
        Values, (N,), with the same sum.

    Example:
        >>> share_within(torch.tensor([1.0, 3.0]), (0, 1, 1)).tolist()
        [1.0, 1.5, 1.5]
    """
    identity = torch.tensor(group)
    return values[identity] / torch.bincount(identity)[identity]


def _far_above(sizes: Tensor, moving: Tensor) -> Tensor:
    """Tell which sizes are outliers, above those that are moving."""
    if int(moving.sum()) < FEWEST:
        return torch.zeros_like(moving)
    logarithms = sizes.log()
    middle = _median(logarithms[moving])
    deviation = TO_DEVIATION * _median((logarithms[moving] - middle).abs())
    return logarithms - middle > max(3 * float(deviation), math.log(2))


def _median(values: Tensor) -> Tensor:
    return values.median() if len(values) else values.new_zeros(())


def _components(linked: Tensor) -> list[int]:
    """Number the connected components of a symmetric relation, in order of their first member."""
    group = [-1] * len(linked)
    for start in range(len(linked)):
        if group[start] >= 0:
            continue
        number = max(group) + 1
        reached = [start]
        while reached:
            index = reached.pop()
            if group[index] < 0:
                group[index] = number
                reached += linked[index].nonzero().flatten().tolist()
    return group
