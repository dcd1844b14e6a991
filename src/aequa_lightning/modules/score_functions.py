"""Scores that are functions of means over samples, from means alone; every mean is one of a fixed number of entries.

In each, ``means`` has shape (m * K,): m blocks of K, one entry for each class, label or number to predict.
"""

import numpy as np
from numpy.typing import NDArray

Means = NDArray[np.float64]


def balanced_accuracy(means: Means) -> float:
    """Return the mean over classes of the accuracy within a class, over classes that occur.

    Args:
        means: Shares of samples that are of a class and found to be, then that are of a class, (2 * K,).

    Example:
        >>> round(balanced_accuracy(np.array([0.4, 0.1, 0.5, 0.5])), 6)
        0.5
    """
    found, held = means.reshape(2, -1)
    occurs = held > 0
    return float((found[occurs] / held[occurs]).mean())


def macro_f1(means: Means) -> float:
    """Return the mean F1 over classes, or labels, that occur in predictions or targets.

    Args:
        means: Shares of samples that are of a class and found to be, that are found to be, that are, (3 * K,).

    Example:
        >>> macro_f1(np.array([0.5, 0.0, 1.0, 0.0, 0.5, 0.5]))
        0.3333333333333333
    """
    found, predicted, held = means.reshape(3, -1)
    occurs = predicted + held > 0
    return float((2 * found[occurs] / (predicted + held)[occurs]).mean()) if occurs.any() else 1.0


def mean_iou(means: Means) -> float:
    """Return the mean over classes of intersection over union, over classes that occur in predictions or targets.

    Args:
        means: Pixels of a class that are found to be, then that are or are found to be, (2 * K,).

    Example:
        >>> mean_iou(np.array([2.0, 0.0, 4.0, 0.0]))
        0.5
    """
    both, either = means.reshape(2, -1)
    occurs = either > 0
    return float((both[occurs] / either[occurs]).mean()) if occurs.any() else 1.0


def r_squared(means: Means) -> float:
    """Return R^2, averaged over the numbers to predict, at least 0; 0 where all targets are alike.

    Args:
        means: Means of squared errors, of targets, and of squared targets, (3 * K,).

    Example:
        >>> r_squared(np.array([0.25, 2.0, 5.0]))
        0.75
    """
    errors, targets, squares = means.reshape(3, -1)
    variances = squares - targets**2
    explained = np.where(variances > 0, 1 - errors / np.where(variances > 0, variances, 1), 0.0)
    return float(max(0.0, explained.mean()))
