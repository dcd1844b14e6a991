import numpy as np
import pytest
import torch
from scipy import stats

from aequa_lightning.data.noise import add_gaussian_noise, corrupt_labels, noise_levels
from aequa_lightning.errors import InputError


def test_noise_levels():
    assert noise_levels(0.9, 4, "key") == pytest.approx([0, 0.3, 0.6, 0.9])
    assert noise_levels([0.1, 0.0], 2, "key") == [0.1, 0.0]
    assert noise_levels(0.0, 1, "key") == [0.0]
    for wrong in ([0.1], -1.0, [float("nan"), 0.0]):
        with pytest.raises(InputError, match="key"):
            noise_levels(wrong, 2, "key")


def test_noise_gaussian_noise_is_normal():
    inputs = torch.full((4, 1000), 5.0)
    add_gaussian_noise(inputs, 0.3, np.random.default_rng(0))
    assert stats.kstest(inputs.flatten().numpy(), stats.norm(5, 0.3).cdf).pvalue > 1e-3


def test_noise_corrupted_labels_are_other_classes_with_equal_chance():
    targets = torch.full((6000,), 2)
    corrupt_labels(targets, 0.5, 4, np.random.default_rng(0))
    counts = torch.bincount(targets, minlength=4)
    assert counts[2] == 3000
    assert stats.chisquare(counts[[0, 1, 3]].numpy()).pvalue > 1e-3


def test_noise_level_zero_changes_nothing():
    inputs, targets = torch.zeros(3), torch.tensor([0, 1, 2])
    add_gaussian_noise(inputs, 0.0, np.random.default_rng(0))
    corrupt_labels(targets, 0.0, 3, np.random.default_rng(0))
    assert inputs.tolist() == [0, 0, 0]
    assert targets.tolist() == [0, 1, 2]
