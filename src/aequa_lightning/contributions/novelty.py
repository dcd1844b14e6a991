"""How much of an update is new: neither known from earlier rounds nor noise.

Everybody knows the past aggregates. Whoever sends one of them, or any mixture, sends nothing new, and noise that is
added is new but has nothing in common with what is new in the others' updates. Updates that were trained in the same
round do have something in common, whatever data they were trained on: they start from the same model.
"""

import torch
from torch import Tensor

from aequa_lightning.errors import InputError

# Directions below this share of the longest one add nothing to a span.
NEGLIGIBLE = 1e-6
# An update of which less than this share of the squared length is new holds nothing new but rounding.
NOTHING_NEW = 1e-3
# A novelty does not fall below this; one is what noise has.
LEAST_NOVELTY = 1e-2


def new_parts(updates: Tensor, known: Tensor) -> Tensor:
    """Return what of each update lies outside of the span of known directions.

    Args:
        updates: (N, m).
        known: (T, m), in any order, of any lengths; dependent ones are allowed.

    Returns:
        float64 of shape (N, m).

    Example:
        >>> new_parts(torch.tensor([[3.0, 4.0, 0.0]]), torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.0, 0.0]])).tolist()
        [[0.0, 4.0, 0.0]]
    """
    if updates.ndim != 2 or known.ndim != 2 or updates.shape[1] != known.shape[1]:
        raise InputError(f"updates of shape {tuple(updates.shape)} and known directions {tuple(known.shape)} differ.")
    updates, known = updates.double(), known.double()
    lengths = known.norm(dim=1, keepdim=True)
    known = known[lengths[:, 0] > 0] / lengths[lengths[:, 0] > 0]
    if not len(known):
        return updates
    _, sizes, basis = torch.linalg.svd(known, full_matrices=False)
    basis = basis[sizes > NEGLIGIBLE * sizes[0]]
    new: Tensor = updates - updates @ basis.T @ basis
    # Once more, for what rounding has left.
    new -= new @ basis.T @ basis
    return new


def novelty(updates: Tensor, new: Tensor, chance: Tensor) -> Tensor:
    """Return how much each update has in common with what is new in the others', relative to noise of its shape.

    Args:
        updates: N updates, or sketches of them, (N, m).
        new: What is new in each, (N, m).
        chance: Expected squared cosine of two updates if the signs of one's entries were random, (N, N).

    Returns:
        Mean squared cosine with the others' new parts over that of chance, (N,), float64: about 1 for noise of any
        shape, less for known directions, 0 for zeros, and 10 to 10,000 for updates that were trained. 1 where no other
        update holds anything new.

    Example:
        >>> updates = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0]])
        >>> novelty(updates, updates, chance=random_sign_cosines(updates @ updates.T, (updates**2) @ (updates**2).T))
        tensor([2.0000, 2.0000, 0.0000], dtype=torch.float64)
    """
    updates, new, chance = updates.double(), new.double(), chance.double()
    squares, new_squares = updates.square().sum(dim=1), new.square().sum(dim=1)
    alive = new_squares > NOTHING_NEW * squares
    others = alive & ~torch.eye(len(updates), dtype=torch.bool, device=updates.device)
    lengths = squares[:, None] * new_squares
    shared = torch.where(others & (lengths > 0), (updates @ new.T).square() / lengths, 0.0).sum(dim=1)
    expected = torch.where(others, chance, 0.0).sum(dim=1)
    found = torch.where(expected > 0, shared / expected, 1.0)
    return torch.where(squares > 0, found, 0.0)


def random_sign_cosines(gram: Tensor, square_gram: Tensor, *, error: float = 0.0) -> Tensor:
    """Return the expected squared cosine of each pair of updates if the signs of one's entries were random.

    Args:
        gram: Inner products of the updates, (N, N).
        square_gram: Inner products of the updates squared entry by entry, (N, N).
        error: Squared cosine that comes from sketches, >= 0.

    Returns:
        float64 of shape (N, N); 0 for an update of zeros.

    Example:
        >>> updates = torch.tensor([[1.0, 1.0], [3.0, 3.0]])
        >>> random_sign_cosines(updates @ updates.T, (updates**2) @ (updates**2).T)[0, 1]
        tensor(0.5000, dtype=torch.float64)
    """
    squares = gram.double().diagonal()
    lengths = squares[:, None] * squares
    return torch.where(lengths > 0, square_gram.double() / lengths + error, 0.0)
