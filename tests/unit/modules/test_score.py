from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torchmetrics import MeanSquaredError
from torchmetrics.classification import BinaryAUROC

from aequa_lightning.errors import InputError
from aequa_lightning.modules.score import SampleScore, WholeScore

RANDOM = torch.Generator().manual_seed(0)
CHANCES, LABELS = torch.rand(50, generator=RANDOM), torch.randint(2, (50,), generator=RANDOM)


def in_batches(size: int) -> list[tuple[Tensor, Any]]:
    return [(chances, (None, labels)) for chances, labels in zip(CHANCES.split(size), LABELS.split(size), strict=True)]


def test_a_metric_is_computed_over_all_batches_and_keeps_nothing_of_a_sample() -> None:
    score = WholeScore(BinaryAUROC(), targets=lambda batch: batch[1])
    for size in (50, 7):
        scored = score.measure(in_batches(size))
        assert scored.value == pytest.approx(roc_auc_score(LABELS, CHANCES))
        assert scored.statistics.shape == (50, 0)


def test_a_score_of_means_is_that_function_of_the_means_over_all_batches() -> None:
    def statistics(outputs: Tensor, batch: Any) -> Tensor:
        return torch.stack([outputs, outputs**2], 1)

    score = SampleScore(statistics, name="variance", size=2, of_means=lambda means: float(means[1] - means[0] ** 2))
    scored = score.measure(in_batches(7))
    assert scored.value == pytest.approx(np.var(CHANCES.double().numpy()))
    half = scored.statistics[:25].numpy().mean(0)
    assert score.of_means(half) == pytest.approx(np.var(CHANCES[:25].double().numpy()))


def test_scores_outside_of_0_and_1_are_refused_and_undefined_ones_are_worth_nothing() -> None:
    with pytest.raises(InputError, match=r"samples from 0\.\d+ to 2"):
        SampleScore(lambda outputs, batch: 2 * outputs / outputs.max(), name="twice").measure(in_batches(50))
    with pytest.raises(InputError, match=r"a tensor of shape \(\)"):
        SampleScore(lambda outputs, batch: outputs.mean(), name="mean").measure(in_batches(50))
    with pytest.raises(InputError, match="MeanSquaredError is better where it is smaller"):
        WholeScore(MeanSquaredError(), targets=lambda batch: batch[1])
    assert SampleScore(lambda outputs, batch: outputs * torch.nan, name="lost").measure(in_batches(50)).value == 0
