import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from aequa_lightning.data.preparation import channel_statistics, normalised, stratified_split


def test_preparation_stratified_split_takes_the_share_of_each_class():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 4], [40, 25, 3]))
    taken, left = stratified_split(labels, 0.2, 0)
    assert sorted([*taken, *left]) == list(range(68))
    assert [(labels[taken] == label).sum() for label in (0, 1, 4)] == [8, 5, 1]
    assert (np.diff(taken) > 0).all()
    assert (np.diff(left) > 0).all()


def test_preparation_stratified_split_is_uniform_within_a_class():
    chosen = sum(np.isin(np.arange(10), stratified_split(np.zeros(10, int), 0.3, seed)[0]) for seed in range(2000))
    assert chosen.sum() == 6000
    assert np.abs(chosen - 600).max() < 5 * np.sqrt(2000 * 0.3 * 0.7)


@pytest.mark.parametrize("shape", [(50, 3, 4, 5), (50, 1, 6, 6), (50, 7)])
def test_preparation_normalisation_agrees_with_scikit_learn(shape):
    values = torch.from_numpy(np.random.default_rng(0).normal(3, 2, shape)).float()
    rows = values.movedim(1, -1).reshape(-1, shape[1]).double().numpy()
    expected = torch.from_numpy(StandardScaler().fit_transform(rows)).view(values.movedim(1, -1).shape).movedim(-1, 1)
    mean, std = channel_statistics(values)
    assert torch.allclose(normalised(values, mean, std).double(), expected, atol=1e-5)


def test_preparation_bytes_count_as_fractions():
    images = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8)
    mean, std = channel_statistics(images)
    fractions = images.float() / 255
    assert (mean, std) == (
        pytest.approx(channel_statistics(fractions)[0]),
        pytest.approx(channel_statistics(fractions)[1]),
    )
    assert torch.allclose(normalised(images, mean, std), normalised(fractions, mean, std), atol=1e-6)
    assert normalised(images, mean, std).dtype == torch.float32


def test_preparation_constant_channel_is_not_divided_by_zero():
    images = torch.full((5, 2, 3, 3), 77, dtype=torch.uint8)
    images[:, 1] = torch.arange(9).view(3, 3)
    mean, std = channel_statistics(images)
    assert std[0] == 1
    assert normalised(images, mean, std)[:, 0].abs().max() < 1e-6


def test_preparation_token_numbers_and_the_callers_tensor_are_left_alone():
    tokens = torch.tensor([[3, 1, 0]])
    assert torch.equal(normalised(tokens, None, None), tokens)
    floats = torch.ones(2, 2)
    normalised(floats, (1.0, 1.0), (2.0, 2.0))
    assert torch.equal(floats, torch.ones(2, 2))
