import itertools
from fractions import Fraction

import pytest
import torch

from aequa_lightning.engine.server.aggregators import FedAvg
from aequa_lightning.engine.server.exact_sum import CHUNK, LARGEST_UPDATE, ExactSum, are_valid


def test_exact_sum_mean_is_the_rational_mean() -> None:
    updates = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    weights = FedAvg().weights([3, 1, 2, 10])
    total = ExactSum(50, torch.device("cpu"))
    for update, weight in zip(updates, weights, strict=True):
        total.add(update, weight)
    for column in range(50):
        exact = sum(Fraction(w) * Fraction(float(u)) for w, u in zip(weights, updates[:, column], strict=True))
        assert abs(float(exact) - total.mean(torch.tensor(1.0))[column].item()) < 4 * 2.0**-40


def test_exact_sum_is_the_same_in_any_order_and_grouping() -> None:
    updates = torch.randn(5, 200, generator=torch.Generator().manual_seed(1)) * torch.logspace(-4, 2, 200)
    weights = FedAvg().weights([7, 1, 1, 5, 3])
    results = set()
    for order in itertools.permutations(range(5)):
        for cut in range(6):
            parts = [ExactSum(200, torch.device("cpu")) for _ in range(2)]
            for place, index in enumerate(order):
                parts[place >= cut].add(updates[index], weights[index])
            parts[0].total += parts[1].total
            results.add(tuple(parts[0].total.tolist()))
    assert len(results) == 1


def test_exact_sum_of_the_largest_updates_is_exact() -> None:
    """At the end of the range a small update still counts in full."""
    largest = torch.nextafter(torch.tensor([LARGEST_UPDATE]), torch.tensor([0.0]))
    updates = torch.stack([largest, -largest, torch.tensor([2.0**-30])])
    weights = [0.5, 0.25, 0.25]
    results = set()
    for order in itertools.permutations(range(3)):
        total = ExactSum(1, torch.device("cpu"))
        for index in order:
            total.add(updates[index], weights[index])
        results.add(total.total.item())
    assert results == {float(largest) / 4 + 2.0**-32}


def test_exact_sum_of_large_updates_at_uneven_weights_does_not_depend_on_the_order() -> None:
    """Products as long as a float64 is, of sums at the end of the range: a finer resolution would round them."""
    largest = torch.full((200,), LARGEST_UPDATE - 1)
    updates = torch.stack([largest, largest - 1, *torch.randn(3, 200, generator=torch.Generator().manual_seed(3))])
    weights = [0.4, 0.3, 0.1, 0.15, 0.05]
    results = set()
    for order in itertools.permutations(range(5)):
        total = ExactSum(200, torch.device("cpu"))
        for index in order:
            total.add(updates[index], weights[index])
        results.add(tuple(total.total.tolist()))
    assert len(results) == 1


def test_exact_sum_adds_a_large_update_chunk_by_chunk() -> None:
    size = 2 * CHUNK + 7
    updates = torch.randn(3, size, generator=torch.Generator().manual_seed(2))
    weights, total = [0.5, 0.25, 0.25], ExactSum(size, torch.device("cpu"))
    for update, weight in zip(updates, weights, strict=True):
        total.add(update, weight)
    # Each of the three is rounded to a multiple of 2**-40; float64 holds the products exactly.
    expected = torch.tensor(weights, dtype=torch.float64) @ updates.double()
    assert (total.total - expected).abs().max() < 2 * 2.0**-40


def test_exact_sum_is_needed_because_floating_point_sums_depend_on_the_order() -> None:
    """The reason for fixed point: the control of the test above."""
    values = torch.randn(5, 200, generator=torch.Generator().manual_seed(1)) * torch.logspace(-4, 2, 200)
    sums = {tuple(sum(values[i] for i in order).tolist()) for order in itertools.permutations(range(5))}
    assert len(sums) > 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 2.0**13])
def test_exact_sum_invalid_updates_are_found(bad: float) -> None:
    updates = torch.ones(3, 5)
    updates[1, 3] = bad
    assert are_valid(updates) == [True, False, True]


def test_exact_sum_without_an_invalid_update_is_the_mean_of_the_others() -> None:
    total = ExactSum(1, torch.device("cpu"))
    for value, weight in ((1.0, 0.25), (4.0, 0.25)):
        total.add(torch.tensor([value]), weight)
    assert total.mean(torch.tensor(0.5)).item() == 2.5
