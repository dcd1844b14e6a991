"""What is new in updates: against a least-squares solver, against noise of many shapes, and in sketches."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from aequa_lightning.contributions.novelty import new_parts, novelty, random_sign_cosines
from aequa_lightning.contributions.sketch import Sketch
from aequa_lightning.errors import InputError

SIZE, COUNT = 4000, 10
CPU = torch.device("cpu")


@pytest.fixture
def source() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def honest(source: torch.Generator) -> Tensor:
    """Updates that share a little, and have entries of very different sizes as those of layers have."""
    scales = torch.logspace(-2, 0, SIZE)
    common = torch.randn(SIZE, generator=source)
    return scales * (common + torch.randn(COUNT, SIZE, generator=source))


def _novelty(updates: Tensor, known: Tensor) -> Tensor:
    gram, squares = (updates.double().pow(power) @ updates.double().pow(power).T for power in (1, 2))
    return novelty(updates, new_parts(updates, known), random_sign_cosines(gram, squares))


def test_new_parts_are_the_residuals_of_least_squares(source: torch.Generator) -> None:
    updates, known = (torch.randn(n, 50, generator=source, dtype=torch.float64) for n in (3, 6))
    # Dependent, zero and badly scaled directions change nothing.
    known = torch.cat([known, known[:2].sum(0, keepdim=True), torch.zeros(1, 50), 1e-6 * known[:1]])
    a = known.T.numpy()
    for update, new in zip(updates, new_parts(updates, known), strict=True):
        solution, *_ = np.linalg.lstsq(a, update.numpy(), rcond=1e-9)
        np.testing.assert_allclose(new.numpy(), update.numpy() - a @ solution, atol=1e-9)
    assert torch.equal(new_parts(updates, torch.zeros(0, 50)), updates)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="differ"):
        new_parts(torch.zeros(1, 3), torch.zeros(1, 4))


@pytest.mark.parametrize("shape", ["even", "as an update", "one entry", "hundred entries"])
def test_noise_of_any_shape_is_worth_what_chance_is(honest: Tensor, source: torch.Generator, shape: str) -> None:
    found = []
    for _ in range(30):
        noise = torch.randn(SIZE, generator=source)
        if shape == "as an update":
            noise = honest[1].abs() * noise.sign()
        elif shape == "one entry":
            noise = torch.zeros(SIZE)
            noise[-1] = 1.0
        elif shape == "hundred entries":
            noise[:-100] = 0
        planted = honest.clone()
        planted[0] = noise
        values = _novelty(planted, torch.zeros(0, SIZE))
        assert values[1:].min() > 4 * values[0]
        found.append(float(values[0]))
    assert 0.3 < np.mean(found) < 3


def test_what_is_known_is_worth_nothing_and_noise_on_top_no_more_than_chance(
    honest: Tensor, source: torch.Generator
) -> None:
    known = honest.roll(1, dims=1)[:5]
    planted = honest.clone()
    planted[0] = known[2]
    planted[1] = 3 * known[0] - known[4]
    planted[2] = known[1] + torch.randn(SIZE, generator=source) * known[1].norm() / math.sqrt(SIZE)
    planted[3] = 0
    values = _novelty(planted, known)
    assert values[[0, 1, 3]].max() < 1e-6
    assert values[2] < 5
    assert values[4:].min() > 50


def test_one_alone_is_not_judged() -> None:
    assert _novelty(torch.ones(1, 3), torch.zeros(0, 3)).tolist() == [1.0]


def test_sketches_keep_inner_products_and_spans(source: torch.Generator) -> None:
    sketch = Sketch(100_000, source, CPU, length=1999)
    vectors = torch.randn(4, 100_000, generator=source)
    vectors[1] = 0.6 * vectors[0] + 0.8 * vectors[1]
    vectors[2] = vectors[0] - 2 * vectors[3]
    rows = torch.stack([sketch(vector) for vector in vectors])
    cosines = torch.corrcoef(rows)
    assert rows.shape == (4, 1999)
    assert cosines[0, 1] == pytest.approx(0.6, abs=4 / math.sqrt(1999))
    assert torch.allclose(rows[2], rows[0] - 2 * rows[3])
    assert sketch.error == pytest.approx(1 / 1999)
    # By the definition: signs, then sums of every 1999th entry.
    assert sketch._signs is not None
    signed = vectors[0].double() * sketch._signs
    assert torch.allclose(rows[0][7], signed[7::1999].sum())


def test_sketches_tell_noise_from_updates(source: torch.Generator) -> None:
    size = 200_000
    common = torch.randn(size, generator=source)
    updates = 0.3 * common + torch.randn(6, size, generator=source)
    updates[0] = torch.randn(size, generator=source)
    sketch = Sketch(size, source, CPU, length=4093)
    rows = torch.stack([sketch(update) for update in updates])
    gram, squares = (updates.double().pow(power) @ updates.double().pow(power).T for power in (1, 2))
    values = novelty(rows, rows, random_sign_cosines(gram, squares, error=sketch.error))
    assert values[0] < 4
    assert values[1:].min() > 10


def test_short_vectors_stay_as_they_are() -> None:
    vector = torch.tensor([1.0, -2.0])
    assert torch.equal(Sketch(2, torch.Generator(), CPU)(vector), vector.double())
    assert Sketch(2, torch.Generator(), CPU).error == 0
