"""Who takes part in a round."""

import numpy as np

from aequa_lightning.collaboration.seeding import derive_seed


def draw(participants: int, count: int | None, *, seed: int, round: int) -> list[int]:
    """Choose a round's participants: the same in every process, and after a resume.

    Args:
        participants: Number of all.
        count: How many to choose; None: all.
        seed: The run's seed.
        round: Number of the round.

    Returns:
        Their indices, ascending.

    Example:
        >>> draw(3, None, seed=0, round=1), len(set(draw(9, 4, seed=0, round=1)))
        ([0, 1, 2], 4)
    """
    if count is None:
        return list(range(participants))
    generator = np.random.default_rng(derive_seed(seed, "selection", round))
    return sorted(generator.choice(participants, count, replace=False).tolist())
