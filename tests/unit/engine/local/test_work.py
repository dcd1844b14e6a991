import pytest
import torch

from aequa_lightning.engine.local.work import LocalWork, batches, share_of, take


@pytest.mark.parametrize("samples", [1, 2, 7, 8, 9, 16, 17])
def test_every_epoch_sees_every_sample_once(samples: int) -> None:
    seen = torch.cat(list(batches(samples, LocalWork(epochs=3), 4, seed=0)))
    assert torch.bincount(seen, minlength=samples).tolist() == [3] * samples


def test_no_batch_of_one_where_it_can_be_avoided() -> None:
    for samples in range(2, 40):
        assert min(len(batch) for batch in batches(samples, LocalWork(epochs=2), 4, seed=0)) >= 2


def test_every_epoch_has_an_order_of_its_own() -> None:
    first, second = torch.cat(list(batches(50, LocalWork(epochs=2), 7, seed=0))).split(50)
    assert not torch.equal(first, second)


def test_steps_count_batches_over_epochs() -> None:
    assert len(list(batches(10, LocalWork(steps=8), 4, seed=0))) == 8


def test_the_order_comes_from_the_seed_alone() -> None:
    first, second, other = (
        torch.cat(list(batches(50, LocalWork(epochs=1), 7, seed=seed))).tolist() for seed in (1, 1, 2)
    )
    assert first == second != other


def test_without_shuffling_the_samples_come_as_they_lie() -> None:
    inputs, found = torch.arange(5), batches(5, LocalWork(epochs=2, shuffle=False), 2, seed=0)
    seen = [take(inputs, batch) for batch in found]
    assert torch.cat(seen).tolist() == [*range(5), *range(5)]
    assert seen[0].data_ptr() == inputs.data_ptr()


@pytest.mark.parametrize("samples", [1, 3, 4, 5, 8, 9, 17])
@pytest.mark.parametrize("size", [1, 4])
def test_batches_are_counted_before_they_are_made(samples: int, size: int) -> None:
    for work in (LocalWork(epochs=3), LocalWork(steps=7)):
        assert work.count(samples, size) == len(list(batches(samples, work, size, seed=0)))


def test_batches_of_one_may_be_asked_for() -> None:
    assert [len(batch) for batch in batches(3, LocalWork(epochs=2), 1, seed=0)] == [1] * 6


def test_work_that_is_cut_begins_like_the_whole() -> None:
    work = LocalWork(epochs=2)
    part = list(batches(10, work.within(4, 10, 3), 3, seed=1))
    whole = list(batches(10, work, 3, seed=1))
    assert len(part) == 4 < len(whole)
    assert all(torch.equal(a, b) for a, b in zip(part, whole, strict=False))
    assert work.within(99, 10, 3) == work.within(None, 10, 3) == work
    # Whoever has just enough time is not cut.
    assert work.within(len(whole), 10, 3) == work


@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("replicas", [1, 2, 3, 4])
@pytest.mark.parametrize("samples", [2, 3, 4, 5, 6, 7, 8, 9])
def test_the_mean_over_replicas_is_the_mean_over_the_batch(samples: int, replicas: int, least: int) -> None:
    batch, losses = torch.randperm(samples), torch.rand(samples, dtype=torch.float64)
    parts = [share_of(batch, replica, replicas, least=least) for replica in range(replicas)]
    assert all(len(part) >= least for part, _ in parts)
    total = sum(float(losses[part].mean()) * weight for part, weight in parts) / replicas
    assert total == pytest.approx(float(losses[batch].mean()))


def test_a_single_sample_fills_a_batch_where_there_must_be_two() -> None:
    found = list(batches(1, LocalWork(epochs=2), 4, seed=0, least=2))
    assert [batch.tolist() for batch in found] == [[0, 0]] * 2
    assert [len(batch) for batch in batches(5, LocalWork(), 2, seed=0, least=2)] == [2, 3]
