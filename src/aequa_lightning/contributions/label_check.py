"""Test for false labels: whether a network that one participant trains alone does worse than guessing.

Honest training makes a network better than guessing, however few classes and samples it has seen. A participant with
one class always predicts it, which is as good as guessing. False labels make a network avoid the true class.
"""

import torch
from scipy import stats
from torch import Tensor

# Significance level: the probability that guessing is reported as false labels.
FALSE_ALARM = 1e-3


def guessing_accuracy(predicted: Tensor, targets: Tensor) -> float:
    """Return the expected accuracy of guesses that have the same frequencies as the predictions.

    This is the agreement by chance of Cohen's kappa (Cohen, Educational and Psychological Measurement, 1960).

    Args:
        predicted: Predicted class of each sample, (n,).
        targets: True class of each sample, (n,).

    Returns:
        In [0, 1].

    Example:
        >>> guessing_accuracy(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 1]))
        0.375
    """
    classes = 1 + int(torch.maximum(predicted.max(), targets.max()))
    shares = [torch.bincount(each.cpu(), minlength=classes).double() / len(targets) for each in (predicted, targets)]
    return float(shares[0] @ shares[1])


def is_worse_than_guessing(accuracy: float, guessing: float, samples: int) -> bool:
    """Return whether an accuracy is too low to be that of guesses, by a one-sided binomial test.

    Args:
        accuracy: Share of right predictions, in [0, 1].
        guessing: Expected accuracy of guesses, in [0, 1]; see :func:`guessing_accuracy`.
        samples: Number of samples that both were measured on.

    Example:
        >>> is_worse_than_guessing(0.01, 0.1, 300), is_worse_than_guessing(0.08, 0.1, 300)
        (True, False)
    """
    return bool(stats.binom.cdf(round(accuracy * samples), samples, guessing) < FALSE_ALARM)
