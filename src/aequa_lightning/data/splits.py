"""Partitions as pure functions of labels, number of participants and seed.

Every function returns one sorted index array per participant; the arrays are disjoint and cover all samples. All
randomness comes from one generator seeded by ``seed``, so the same arguments give the same partition everywhere.
The schemes are those of Li, Diao, Chen, He, "Federated learning on non-IID data silos", ICDE 2022, section IV.
"""

import numpy as np
import numpy.typing as npt

from aequa_lightning.data.preparation import IntArray

# Most Dirichlet draws, which are repeated while a participant holds too few samples. An impossible request thus ends
# in an error within a second.
DIRICHLET_DRAWS = 1000


def homogeneous(labels: npt.ArrayLike, participants: int, seed: int) -> list[IntArray]:
    """Deal every class out evenly: participants differ by at most one sample in total and in each class.

    Args:
        labels: Class of each sample, integers, shape (samples,).
        participants: How many participants share the samples, at least 1.
        seed: Seed of the generator, at least 0.

    Returns:
        One sorted index array per participant.

    Example:
        >>> [part.tolist() for part in homogeneous([0, 1, 0, 1], 2, seed=0)]
        [[1, 2], [0, 3]]
    """
    return _deal(np.concatenate(_shuffled_classes(labels, np.random.default_rng(seed))), participants)


def dirichlet(
    labels: npt.ArrayLike, participants: int, seed: int, *, alpha: float, min_samples: int = 0
) -> list[IntArray]:
    """Draw each class's shares over the participants from a symmetric Dirichlet distribution.

    The participants are exchangeable. Where a draw leaves one fewer than ``min_samples``, all classes are drawn again
    from the same generator, at most ``DIRICHLET_DRAWS`` times; the result follows the Dirichlet distribution given
    that all have that many.

    Args:
        labels: Class of each sample, integers, shape (samples,).
        participants: How many participants share the samples, at least 1.
        seed: Seed of the generator, at least 0.
        alpha: Concentration, above 0; small values give each class to few participants, large ones to all alike.
        min_samples: The fewest samples a participant may hold.

    Returns:
        One sorted index array per participant; the last draw if all draws left one fewer than ``min_samples``.

    Example:
        >>> parts = dirichlet([0] * 50 + [1] * 50, 3, seed=1, alpha=0.5)
        >>> [len(part) for part in parts], sum(len(part) for part in parts)
        ([52, 2, 46], 100)
    """
    generator = np.random.default_rng(seed)
    classes = _shuffled_classes(labels, generator)
    counts = np.array([len(members) for members in classes])
    for _ in range(DIRICHLET_DRAWS):
        shares = generator.dirichlet(np.full(participants, alpha), size=len(classes))
        ends = np.rint(shares.cumsum(axis=1) * counts[:, None]).astype(np.int64)
        if np.diff(ends, axis=1, prepend=0).sum(axis=0).min() >= min_samples:
            break
    pieces = [np.split(members, cuts[:-1]) for members, cuts in zip(classes, ends, strict=True)]
    return [np.sort(np.concatenate(part)) for part in zip(*pieces, strict=True)]


def quantity_imbalance(
    labels: npt.ArrayLike, participants: int, seed: int, *, share: float, owners: int
) -> list[IntArray]:
    """Give each of the first ``owners`` participants ``share`` of every class; the others divide the rest evenly.

    In the paper's letters share is kappa and owners is m.

    Args:
        labels: Class of each sample, integers, shape (samples,).
        participants: How many participants share the samples, more than ``owners``.
        seed: Seed of the generator, at least 0.
        share: Part of every class that an owner holds, in (0, 1); rounded to whole samples.
        owners: How many participants hold that part, at least 1, with ``owners * share < 1``.

    Returns:
        One sorted index array per participant, the owners first.

    Example:
        >>> [len(part) for part in quantity_imbalance([0] * 100 + [1] * 100, 4, seed=0, share=0.4, owners=2)]
        [80, 80, 20, 20]
    """
    owned: list[list[IntArray]] = [[] for _ in range(owners)]
    rest: list[IntArray] = []
    for members in _shuffled_classes(labels, np.random.default_rng(seed)):
        *pieces, remainder = np.split(members, np.rint(share * len(members) * np.arange(1, owners + 1)).astype(int))
        for part, piece in zip(owned, pieces, strict=True):
            part.append(piece)
        rest.append(remainder)
    return [np.sort(np.concatenate(part)) for part in owned] + _deal(np.concatenate(rest), participants - owners)


def label_skew(labels: npt.ArrayLike, participants: int, seed: int, *, classes: int) -> list[IntArray]:
    """Give each participant ``classes`` random classes and divide each class evenly over its holders.

    First the classes are dealt out in random order, so that each has a holder; then further classes of every
    participant are drawn at random. A class has one holder or more.

    Args:
        labels: Class of each sample, integers, shape (samples,).
        participants: How many participants share the samples; ``participants * classes`` must reach all classes.
        seed: Seed of the generator, at least 0.
        classes: How many classes each participant holds, from 1 to the number of classes.

    Returns:
        One sorted index array per participant.

    Example:
        >>> labels = np.arange(40) % 4
        >>> [np.unique(labels[part]).tolist() for part in label_skew(labels, 3, seed=0, classes=2)]
        [[0, 1], [0, 2], [1, 3]]
    """
    generator = np.random.default_rng(seed)
    members = _shuffled_classes(labels, generator)
    held = np.zeros((participants, len(members)), dtype=bool)
    order = generator.permutation(len(members))
    for first, row in enumerate(held):
        row[order[np.arange(first, max(participants, len(order)), participants) % len(order)]] = True
        row[generator.choice(np.flatnonzero(~row), classes - row.sum(), replace=False)] = True
    parts: list[list[IntArray]] = [[] for _ in range(participants)]
    for class_members, holders in zip(members, held.T, strict=True):
        holding = np.flatnonzero(holders)
        for participant, piece in zip(holding, np.array_split(class_members, len(holding)), strict=True):
            parts[participant].append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def _shuffled_classes(labels: npt.ArrayLike, generator: np.random.Generator) -> list[IntArray]:
    """Return the indices of each class, smallest label first, each in random order."""
    labels = np.asarray(labels)
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def _deal(order: IntArray, participants: int) -> list[IntArray]:
    """Deal indices out, one to each participant in turn."""
    return [np.sort(order[participant::participants]) for participant in range(participants)]
