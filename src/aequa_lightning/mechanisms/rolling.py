"""Which neurons make up a sub-model, and how many of them a participant receives (FedRAC, Wang et al., CVPR 2026).

The neurons of all hidden layers are one list, ordered by how often they were part of a sub-model so far, least used
first. A sub-model is a beginning of that list, so that in time all are trained alike often.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cuts(neurons: int, steps: int) -> list[int]:
    """Return the sizes of sub-models that are measured, evenly spaced up to all neurons.

    Args:
        neurons: Number of neurons of all hidden layers, >= 1.
        steps: Number of sizes; fewer where there are fewer neurons.

    Example:
        >>> cuts(400, 50)[:3], cuts(5, 50)
        ([8, 16, 24], [1, 2, 3, 4, 5])
    """
    count = min(neurons, steps)
    return [neurons * place // count for place in range(1, count + 1)]


def least_used(usage: ArrayLike) -> NDArray[np.int64]:
    """Return the neurons in the order in which they become part of a sub-model, (H,).

    Args:
        usage: How many sub-models each neuron was part of so far, (H,).

    Example:
        >>> least_used([2, 0, 1, 0]).tolist()
        [1, 3, 2, 0]
    """
    return np.argsort(np.asarray(usage), kind="stable")


def deserved_accuracies(
    standalone: ArrayLike, full: float, *, round: int, beta: float, early: float, late: float, switch: int
) -> NDArray[np.float64]:
    """Return the accuracy that the sub-model of each participant is not to exceed.

    It is the participant's own accuracy plus part of the full model's, in proportion to ``exp(beta a_i)``. The part
    that is held back, ``b - b / ln(.3 round + 3)``, grows over the rounds.

    Args:
        standalone: Accuracy in [0, 1] that each participant reaches alone, (N,).
        full: Accuracy in [0, 1] of the full model.
        round: The round that the sub-models are trained in, from 2.
        beta: > 0.
        early: b in the rounds up to ``switch``, in [0, 1).
        late: b afterwards, in [0, 1).
        switch: A round, >= 1.

    Returns:
        (N,).

    Example:
        >>> rules = {"beta": 10.0, "early": 0.2, "late": 0.8, "switch": 100}
        >>> deserved_accuracies([0.5, 0.6], 0.8, round=2, **rules).round(4).tolist()
        [0.7814, 1.3649]
    """
    own = np.asarray(standalone, dtype=np.float64)
    contributions = np.exp(beta * (own - own.max()))
    bound = early if round <= switch else late
    held_back = bound - bound / np.log(0.3 * round + 3)
    deserved: NDArray[np.float64] = own + full * (1 - held_back) * contributions
    return deserved


def submodel_sizes(
    standalone: Sequence[float], deserved: Sequence[float], accuracies: Sequence[float], sizes: Sequence[int]
) -> list[int]:
    """Return how many neurons each participant receives: the best one all, each other one more than those before it.

    From the lowest standalone accuracy upwards, each receives the largest sub-model but the full one whose next larger
    one is no better than deserved; where none is, the smallest that is larger than its predecessor's.

    Args:
        standalone: Accuracy that each participant reaches alone, (N,).
        deserved: By :func:`deserved_accuracies`, (N,).
        accuracies: Validation accuracy of each size, (S,).
        sizes: By :func:`cuts`, (S,).

    Returns:
        (N,).

    Example:
        >>> submodel_sizes([0.5, 0.6, 0.7], [0.35, 0.55, 0.9], [0.1, 0.3, 0.5, 0.7], [2, 4, 6, 8])
        [2, 4, 8]
    """
    received = [0] * len(standalone)
    place, before = 1, 0
    order = np.argsort(np.asarray(standalone), kind="stable").tolist()
    for index in order[:-1]:
        for place in range(len(sizes) - 1, before, -1):
            if accuracies[place] <= deserved[index]:
                break
        received[index] = sizes[place - 1]
        before = place
    received[order[-1]] = sizes[-1]
    return received
