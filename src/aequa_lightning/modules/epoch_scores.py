"""Scores in the logs of Lightning's own Trainer, over all batches and processes of an epoch."""

from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import override

from aequa_lightning.modules.score import SampleScore


class MeanStatistics(Metric):
    """A score of means over samples, as a metric of torchmetrics.

    Args:
        score: The score.
    """

    sums: Tensor
    samples: Tensor
    full_state_update = False

    def __init__(self, score: SampleScore) -> None:
        super().__init__()
        self.score = score
        self.add_state("sums", torch.zeros(score.size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    @override
    def update(self, outputs: Any, batch: Any) -> None:
        kept = self.score.statistics(outputs, batch)
        self.sums += kept.sum(0)
        self.samples += len(kept)

    @override
    def compute(self) -> Tensor:
        return torch.tensor(self.score.of_means((self.sums / self.samples).cpu().numpy()))


class EpochScores:
    """The scores of an epoch, by the names under which they are logged.

    Args:
        module: A LightningModule that is a :class:`~aequa_lightning.modules.task.Task`; its score is taken.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._metrics: dict[str, Metric] = {}

    def update(self, name: str, outputs: Any, batch: Any) -> None:
        """Add a batch to a score."""
        score = self._module.scorer
        if name not in self._metrics:
            metric = MeanStatistics(score) if isinstance(score, SampleScore) else self._module.score.clone()
            metric.reset()
            self._metrics[name] = metric.to(self._module.device)
        if isinstance(score, SampleScore):
            self._metrics[name].update(outputs, batch)
        else:
            self._metrics[name].update(outputs, self._module.targets(batch))

    def log(self, module: LightningModule) -> None:
        """Log the scores of the epoch and forget them; all processes at once."""
        for name, metric in self._metrics.items():
            module.log(name, metric.compute())
        self._metrics.clear()
