"""Scores: how good outputs are, as one number in [0, 1] for a data set, the larger the better.

Most scores are functions of means over samples: accuracy is the mean of hits, R^2 a function of the means of squared
errors, targets and squared targets. Such a score keeps a few numbers of each sample, so that any part of the samples
can be scored again without the network. A metric of torchmetrics, such as an area under a curve, is computed whole.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from aequa_lightning.errors import InputError

Means = NDArray[np.float64]


def describe_score(score: "Score") -> dict[str, str]:
    """Return name and unit of a score, as files tell them: ``%`` where it is a share of samples, else no unit.

    Example:
        >>> describe_score(SampleScore(torch.eq, name="mean IoU"))
        {'name': 'mean IoU', 'unit': ''}
    """
    return {"name": score.name, "unit": "%" if score.is_share else ""}


@dataclass(frozen=True, eq=False)
class Scored:
    """The score of a data set.

    Attributes:
        value: In [0, 1], the larger the better.
        statistics: What the score keeps of each sample, float64 of shape (samples, size), where the outputs are; of
            size 0 where the score is computed whole.
    """

    value: float
    statistics: Tensor


class Score(ABC):
    """A score, by what it computes of outputs and batches.

    Attributes:
        name: What tables and figures call it, such as ``mean IoU``.
        is_share: Whether it is a share of samples, which is shown in percent.
        size: Numbers that it keeps of a sample; 0: it keeps none, and is computed whole.
    """

    name: str
    is_share: bool = False
    size: int

    @property
    def key(self) -> str:
        """The name as a key of logs: without blanks and marks.

        Example:
            >>> SampleScore(torch.eq, name="R^2").key, SampleScore(torch.eq, name="mean IoU").key
            ('r2', 'mean_iou')
        """
        words = ("".join(mark for mark in word if mark.isalnum() or mark == "_") for word in self.name.lower().split())
        return "_".join(words)

    @abstractmethod
    def measure(self, pairs: Iterable[tuple[Any, Any]]) -> Scored:
        """Return the score of a data set.

        Args:
            pairs: Outputs and batch of each batch, at least one.

        Raises:
            InputError: A value is outside [0, 1], or of a wrong shape.
        """

    def of_means(self, means: Means) -> float:
        """Return the score of samples of which the means of the statistics are known.

        Args:
            means: float64 of shape (size,).

        Raises:
            TypeError: The score is computed whole.
        """
        raise TypeError(f"{self.name} is computed whole")


class SampleScore(Score):
    """A score that is a function of means over samples.

    Args:
        statistics: (outputs, batch) -> what is kept of each sample: (samples,) or (samples, size), of any number type.
        name: What tables and figures call it.
        is_share: Whether it is a share of samples.
        size: Numbers that are kept of a sample, >= 1.
        of_means: Means of the statistics, (size,) -> score; None: the mean of the one number is the score.

    Example:
        >>> hits = SampleScore(lambda outputs, batch: outputs.argmax(1) == batch, name="accuracy", is_share=True)
        >>> scored = hits.measure([(torch.eye(4), torch.tensor([0, 1, 2, 0]))])
        >>> scored.value, scored.statistics[:, 0].tolist()
        (0.75, [1.0, 1.0, 1.0, 0.0])
    """

    def __init__(
        self,
        statistics: Callable[[Any, Any], Tensor],
        *,
        name: str,
        is_share: bool = False,
        size: int = 1,
        of_means: Callable[[Means], float] | None = None,
    ) -> None:
        self.name, self.is_share, self.size = name, is_share, size
        self._statistics, self._of_means = statistics, of_means

    def statistics(self, outputs: Any, batch: Any) -> Tensor:
        """Return what is kept of each sample of a batch, float64 of shape (samples, size).

        Raises:
            InputError: A number is of a wrong shape; a score without a function of means is outside [0, 1].
        """
        kept = self._statistics(outputs, batch)
        kept = kept.detach().double() if isinstance(kept, Tensor) else kept
        if not isinstance(kept, Tensor) or kept.ndim not in (1, 2) or kept[:1].numel() != self.size:
            found = f"a tensor of shape {tuple(kept.shape)}" if isinstance(kept, Tensor) else type(kept).__name__
            raise InputError(
                f"model.score returns {found}; return a number in [0, 1] for each sample, of shape (samples,), or use "
                "a metric of torchmetrics."
            )
        # Outputs of a network that diverged are worth nothing.
        kept = kept.reshape(len(kept), self.size).nan_to_num(nan=0.0)
        if self._of_means is None and not bool(((kept >= 0) & (kept <= 1)).all()):
            raise InputError(
                f"model.score gives samples from {kept.min():g} to {kept.max():g}; map it to [0, 1], the larger the "
                "better, such as by exp(-error)."
            )
        return kept

    def measure(self, pairs: Iterable[tuple[Any, Any]]) -> Scored:
        """Return the score of a data set; see :class:`Score`."""
        kept = torch.cat([self.statistics(outputs, batch) for outputs, batch in pairs])
        # Added by NumPy, whose order does not depend on the number of threads.
        return Scored(self.of_means(kept.cpu().numpy().mean(0)), kept)

    def of_means(self, means: Means) -> float:
        """Return the score of samples of which the means of the statistics are known; see :class:`Score`."""
        return float(means[0]) if self._of_means is None else _checked(self._of_means(means), self.name)


class WholeScore(Score):
    """A metric of torchmetrics, which is computed over all samples at once.

    Args:
        metric: Called with outputs and targets. The larger must be the better.
        targets: Batch -> targets.
        name: What tables and figures call it; None: the name of its class.

    Raises:
        InputError: The smaller is the better.

    Example:
        >>> from torchmetrics.classification import BinaryAUROC
        >>> score = WholeScore(BinaryAUROC(), targets=lambda batch: batch[1])
        >>> outputs, targets = torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])
        >>> score.name, score.measure([(outputs, (None, targets))]).value
        ('BinaryAUROC', 0.75)
    """

    size = 0

    def __init__(self, metric: Metric, *, targets: Callable[[Any], Any], name: str | None = None) -> None:
        if metric.higher_is_better is False:
            raise InputError(
                f"model.score={type(metric).__name__} is better where it is smaller, but rewards need a score in "
                "[0, 1], the larger the better; return exp(-error) of each sample from a method `score` instead."
            )
        self.name = name or type(metric).__name__
        self._metric, self._targets = metric, targets

    def measure(self, pairs: Iterable[tuple[Any, Any]]) -> Scored:
        """Return the score of a data set; see :class:`Score`."""
        metric = self._metric.clone()
        metric.reset()
        # Each process computes widths of its own.
        metric.sync_on_compute = False
        samples = 0
        device = torch.device("cpu")
        for outputs, batch in pairs:
            targets = self._targets(batch)
            samples, device = samples + len(targets), targets.device
            metric.to(device).update(outputs, targets)
        value = metric.compute()
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise InputError(f"model.score={self.name} gives more than one number; give a metric with an average.")
        return Scored(_checked(value.item(), self.name), torch.empty(samples, 0, dtype=torch.float64, device=device))


def _checked(value: float, name: str) -> float:
    """Return a score; 0 where it is undefined, as for outputs of a network that diverged.

    Raises:
        InputError: It is outside [0, 1].
    """
    value = 0.0 if math.isnan(value) else float(value)
    if not 0 <= value <= 1:
        raise InputError(f"model.score: {name} is {value:g}; map it to [0, 1], the larger the better.")
    return value
