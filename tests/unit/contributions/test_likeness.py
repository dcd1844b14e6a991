"""The same data under two names is found whatever noise there is, and different data are not."""

import pytest
import torch
from torch import Tensor

from aequa_lightning.contributions.likeness import Likeness, same_data

COUNT, LENGTH, SAMPLES = 8, 800, 100


def _rounds(held: list[range], *, noise: Tensor, seed: int, rounds: int = 10, order: int = 0) -> Likeness:
    """Follow participants whose updates are the mean of their samples' vectors, a common one, and noise.

    Args:
        held: Which samples each participant holds.
        noise: Length of each one's noise relative to its own part, (N,).
        seed: Of the samples.
        rounds: How many.
        order: Seed of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(COUNT * SAMPLES, LENGTH, generator=generator, dtype=torch.float64)
    own = torch.nn.functional.normalize(torch.stack([vectors[list(samples)].mean(dim=0) for samples in held]), dim=1)
    generator.manual_seed(1000 * seed + order)
    likeness = Likeness(len(held), length=LENGTH)
    for _ in range(rounds):
        common = torch.randn(LENGTH, generator=generator, dtype=torch.float64) / LENGTH**0.5
        random = torch.randn(len(held), LENGTH, generator=generator, dtype=torch.float64) / LENGTH**0.5
        likeness.add(own + 3 * common + noise[:, None] * random, range(len(held)))
    return likeness


def _held(overlap: float) -> list[range]:
    """Return samples of which the fifth participant shares a part with the second."""
    held = [range(SAMPLES * index, SAMPLES * (index + 1)) for index in range(COUNT)]
    start = SAMPLES + round((1 - overlap) * SAMPLES)
    # What it does not share is its own.
    held[2] = range(7 * SAMPLES, 8 * SAMPLES)
    held[7] = range(6 * SAMPLES, 7 * SAMPLES)
    held[6] = range(5 * SAMPLES, 6 * SAMPLES)
    held[5] = range(3 * SAMPLES, 4 * SAMPLES)
    held[3] = range(4 * SAMPLES, 5 * SAMPLES)
    held[4] = range(start, start + SAMPLES)
    return held


@pytest.mark.parametrize("seed", range(3))
def test_the_share_of_the_data_in_common_decides(seed: int) -> None:
    noise = torch.full((COUNT,), 0.7)
    for overlap, found in ((1.0, [(1, 4)]), (0.5, []), (0.0, [])):
        likeness = _rounds(_held(overlap), noise=noise, seed=seed)
        assert likeness.same(range(COUNT), torch.zeros(1, COUNT, COUNT)) == found
        # Independent samples: the expected correlation is the share that both hold, whatever the noise.
        assert likeness.correlations(range(COUNT))[0][1, 4].item() == pytest.approx(overlap, abs=0.25)


def test_noise_hides_nobody() -> None:
    noise = torch.full((COUNT,), 0.3)
    noise[4] = 1.5
    likeness = _rounds(_held(1.0), noise=noise, seed=0, rounds=20)
    assert likeness.same(range(COUNT), torch.zeros(1, COUNT, COUNT)) == [(1, 4)]
    found, errors = likeness.correlations(range(COUNT))
    assert abs(found[1, 4] - 1) < 3 * errors[1, 4]


def test_where_noise_is_all_that_is_told_apart_nobody_is_found() -> None:
    """Participants that hold the same, as far as anybody can tell, are not accused."""
    for seed in range(5):
        likeness = _rounds([range(SAMPLES)] * COUNT, noise=torch.full((COUNT,), 1.0), seed=seed)
        assert likeness.same(range(COUNT), torch.zeros(1, COUNT, COUNT)) == []


def test_the_standard_error_is_that_of_many_runs() -> None:
    noise = torch.full((COUNT,), 1.0)
    runs = [_rounds(_held(0.5), noise=noise, seed=0, order=order).correlations(range(COUNT)) for order in range(25)]
    for pair in ((1, 4), (0, 6)):
        spread = torch.stack([found[pair] for found, _ in runs]).std()
        error = torch.stack([errors[pair] for _, errors in runs]).square().mean().sqrt()
        assert 0.7 < error / spread < 1.5


def test_too_few_or_too_alike_say_nothing() -> None:
    likeness = Likeness(3, length=5)
    for _ in range(5):
        likeness.add(torch.ones(3, 5), range(3))
    assert likeness.same(range(3), torch.zeros(1, 3, 3)) == []
    assert not same_data(torch.full((10,), 0.99), torch.zeros(10), torch.zeros(1, 10)).any()


def test_absence_zeros_and_a_resume_change_nothing_for_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(6, 300, generator=generator)
    own[4] = own[1]
    likeness, resumed = (Likeness(6, length=300) for _ in range(2))
    for number in range(8):
        updates = own + 1 + torch.randn(6, 300, generator=generator)
        updates[0] = 0
        present = [index for index in range(6) if (index, number % 2) != (2, 1)]
        likeness.add(updates[present], present)
        state = likeness.state_dict()
        resumed.load_state_dict(state)
        likeness, resumed = resumed, likeness
    assert likeness.same(range(6), torch.zeros(1, 6, 6)) == [(1, 4)]
    assert likeness.same([0, 1, 2], torch.zeros(1, 6, 6)) == []
    assert likeness.correlations(range(6))[1][0].isinf().all()
    # Of some participants it is the same numbers, in the order in which they are asked for.
    some = [4, 1, 3]
    for part, whole in zip(likeness.correlations(some), likeness.correlations(range(6)), strict=True):
        assert torch.equal(part, whole[some][:, some])
