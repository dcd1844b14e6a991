"""Gates before valuation: updates that no measure should be asked about, and identities that are one.

Measures by direction give the highest score to whoever sends an old aggregate back, and most measures pay a copied
update twice. The former holds nothing new, the latter shows in the cosines of updates with each other. What takes
several rounds to be found is in ``evidence`` and ``likeness``.
"""

import math
from dataclasses import dataclass

import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from aequa_lightning.contributions.evidence import FEWEST, TO_DEVIATION
from aequa_lightning.contributions.novelty import NOTHING_NEW
from aequa_lightning.errors import InputError

# A cosine between two updates above this makes them one identity at once; ``likeness`` finds what is less alike.
CLONE_COSINE = 0.99
# An update shorter than this share of the median length is null, however many there are to compare with.
NULL_RATIO = 1e-3
# Outliers are at least this many times as long, or as short, as the median.
LONGER, SHORTER = 2.0, 10.0


@dataclass(frozen=True)
class Gates:
    """What the gates found, one entry per participant.

    Attributes:
        non_finite: The update holds NaN or infinity.
        null: The update is zero, or far shorter than those of the others.
        scaled: The update is far longer than those of the others.
        replay: The update holds nothing but what everybody knew.
        group: Identity: participants with the same number sent the same update up to its length.
    """

    non_finite: tuple[bool, ...]
    null: tuple[bool, ...]
    scaled: tuple[bool, ...]
    replay: tuple[bool, ...]
    group: tuple[int, ...]

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
) -> Gates:
    """Examine one round's updates through their inner products.

    Args:
        gram: Inner products of all pairs of updates, (N, N); non-finite entries mark non-finite updates.
        new: Share of each update's squared length that lies outside of what everybody knew, (N,); None: all of it.
        work: Local work behind each update, such as its number of batches, (N,), above 0; None: all alike. More work
            makes a longer update, so one is scaled only when it is long for its work, too, and null when it is short.
        held: Number of parameters that each participant holds, (N,); None: all alike. Lengths are compared by the root
            of the mean square.

    An update is scaled if the logarithm of its length lies above the median by more than three deviations, which the
    median absolute deviation estimates, and if it is more than twice as long as the median. It is null if it lies below
    as far and is ten times as short. Of fewer than four updates none is scaled, and only those are null that are a
    thousand times as short as the median.

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
    scaled, short = moving.clone(), moving.clone()
    for compared in (sizes, paces):
        logarithms = compared.log()
        scaled &= _outlying(logarithms, moving, least=math.log(LONGER))
        short &= _outlying(-logarithms, moving, least=math.log(SHORTER))
    null = finite & (short | (lengths <= NULL_RATIO * _median(lengths[moving])))
    replay = torch.zeros_like(finite) if new is None else new.cpu() < NOTHING_NEW
    usable = finite & ~null
    cosines = torch.where(usable[:, None] & usable, gram / (lengths[:, None] * lengths), 0.0)
    return Gates(
        tuple((~finite).tolist()),
        tuple(null.tolist()),
        tuple(scaled.tolist()),
        tuple((replay & usable).tolist()),
        components(cosines > CLONE_COSINE),
    )


def components(linked: Tensor) -> tuple[int, ...]:
    """Number the connected components of a symmetric relation, in order of their first member.

    Args:
        linked: Who is linked with whom, bool of shape (N, N).

    Returns:
        Component of each, 0..G - 1.

    Example:
        >>> components(torch.tensor([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.bool))
        (0, 1, 0)
    """
    _, labels = connected_components(linked.cpu().numpy(), directed=False)
    order = {label: number for number, label in enumerate(dict.fromkeys(labels.tolist()))}
    return tuple(order[label] for label in labels.tolist())


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


def _outlying(logarithms: Tensor, moving: Tensor, *, least: float) -> Tensor:
    """Tell which logarithms lie far above those of the updates that are moving, and by more than the least."""
    if int(moving.sum()) < FEWEST:
        return torch.zeros_like(moving)
    middle = _median(logarithms[moving])
    deviation = TO_DEVIATION * _median((logarithms[moving] - middle).abs())
    return logarithms - middle > max(3 * float(deviation), least)


def _median(values: Tensor) -> Tensor:
    return values.median() if len(values) else values.new_zeros(())
