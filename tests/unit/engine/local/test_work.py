import pytest
import torch

from aequa_lightning.engine.local.work import LocalWork, batches, replica_share, select_rows


@pytest.mark.parametrize("samples", [1, 2, 7, 8, 9, 16, 17])
def test_batches_of_an_epoch_hold_every_sample_once(samples: int) -> None:
    seen = torch.cat(list(batches(samples, LocalWork(epochs=3), 4, seed=0)))
    assert torch.bincount(seen, minlength=samples).tolist() == [3] * samples


def test_batches_of_one_are_avoided() -> None:
    for samples in range(2, 40):
        assert min(len(batch) for batch in batches(samples, LocalWork(epochs=2), 4, seed=0)) >= 2


def test_batches_of_each_epoch_have_their_own_order() -> None:
    first, second = torch.cat(list(batches(50, LocalWork(epochs=2), 7, seed=0))).split(50)
    assert not torch.equal(first, second)


def test_batches_are_counted_over_epochs() -> None:
    assert len(list(batches(10, LocalWork(steps=8), 4, seed=0))) == 8


def test_batches_depend_on_the_seed_alone() -> None:
    first, second, other = (
        torch.cat(list(batches(50, LocalWork(epochs=1), 7, seed=seed))).tolist() for seed in (1, 1, 2)
    )
    assert first == second != other


def test_batches_without_shuffling_keep_the_order_of_samples() -> None:
    inputs, found = torch.arange(5), batches(5, LocalWork(epochs=2, shuffle=False), 2, seed=0)
    seen = [select_rows(inputs, batch) for batch in found]
    assert torch.cat(seen).tolist() == [*range(5), *range(5)]
    assert seen[0].data_ptr() == inputs.data_ptr()


@pytest.mark.parametrize("samples", [1, 3, 4, 5, 8, 9, 17])
@pytest.mark.parametrize("size", [1, 4])
def test_batches_are_counted_in_advance(samples: int, size: int) -> None:
    for work in (LocalWork(epochs=3), LocalWork(steps=7)):
        assert work.count(samples, size) == len(list(batches(samples, work, size, seed=0)))


def test_batches_of_one_are_possible_on_request() -> None:
    assert [len(batch) for batch in batches(3, LocalWork(epochs=2), 1, seed=0)] == [1] * 6


def test_local_work_limited_to_fewer_steps_is_the_beginning_of_the_whole() -> None:
    work = LocalWork(epochs=2)
    part = list(batches(10, work.limited_to(4, 10, 3), 3, seed=1))
    whole = list(batches(10, work, 3, seed=1))
    assert len(part) == 4 < len(whole)
    assert all(torch.equal(a, b) for a, b in zip(part, whole, strict=False))
    assert work.limited_to(99, 10, 3) == work.limited_to(None, 10, 3) == work
    # Whoever has just enough time is not cut.
    assert work.limited_to(len(whole), 10, 3) == work


@pytest.mark.parametrize("min_samples", [1, 2])
@pytest.mark.parametrize("replicas", [1, 2, 3, 4])
@pytest.mark.parametrize("samples", [2, 3, 4, 5, 6, 7, 8, 9])
def test_replica_shares_average_to_the_mean_of_the_batch(samples: int, replicas: int, min_samples: int) -> None:
    batch, losses = torch.randperm(samples), torch.rand(samples, dtype=torch.float64)
    parts = [replica_share(batch, replica, replicas, min_samples=min_samples) for replica in range(replicas)]
    assert all(len(part) >= min_samples for part, _ in parts)
    total = sum(float(losses[part].mean()) * weight for part, weight in parts) / replicas
    assert total == pytest.approx(float(losses[batch].mean()))


def test_batches_of_two_repeat_a_single_sample() -> None:
    found = list(batches(1, LocalWork(epochs=2), 4, seed=0, min_samples=2))
    assert [batch.tolist() for batch in found] == [[0, 0]] * 2
    assert [len(batch) for batch in batches(5, LocalWork(), 2, seed=0, min_samples=2)] == [2, 3]
