"""Robust averages against scipy, numpy and a literal transcription of Krum."""

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from scipy import stats

from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.engine.server.collectives import DistributedUpdates
from aequa_lightning.engine.server.robust import Median, MultiKrum, RobustAggregator, TrimmedMean, krum_order
from aequa_lightning.errors import InputError

ROWS = np.random.default_rng(0).normal(size=(9, 50)).astype(np.float32)


def distributed(rows: np.ndarray = ROWS) -> DistributedUpdates:
    updates = {index: torch.from_numpy(row) for index, row in enumerate(rows)}
    topology = Topology(Fabric(accelerator="cpu", devices=1))
    return DistributedUpdates(updates, list(updates), topology, size=rows.shape[1], dtype=torch.float32)


def combine(aggregator: RobustAggregator, rows: np.ndarray = ROWS) -> np.ndarray:
    return aggregator.combine(distributed(rows)).numpy()


@pytest.mark.parametrize("count", [1, 2, 8, 9])
def test_median_equals_numpy(count: int) -> None:
    np.testing.assert_allclose(combine(Median(), ROWS[:count]), np.median(ROWS[:count].astype(float), axis=0))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.49])
def test_trimmed_mean_equals_scipy(share: float) -> None:
    np.testing.assert_allclose(combine(TrimmedMean(share)), stats.trim_mean(ROWS.astype(float), share, axis=0))


@pytest.mark.parametrize("faulty", [0, 2, 5])
def test_krum_scores_equal_the_source(faulty: int) -> None:
    scores = []
    for row in ROWS.astype(float):
        distances = sorted(((row - other) ** 2).sum() for other in ROWS.astype(float))[1:]
        scores.append(sum(distances[: max(1, len(ROWS) - faulty - 2)]))
    rows = torch.from_numpy(ROWS).double()
    assert krum_order(rows @ rows.T, faulty=faulty) == np.argsort(scores).tolist()


@pytest.mark.parametrize("aggregator", [Median(), TrimmedMean(0.25), MultiKrum(faulty=2)])
def test_robust_centre_resists_two_of_nine_attackers(aggregator: RobustAggregator) -> None:
    attacked = ROWS * 0.1
    honest = attacked[:7].mean(axis=0)
    attacked[7:] = 1000.0
    assert np.abs(combine(aggregator, attacked) - honest).max() < 0.3
    assert np.abs(attacked.mean(axis=0) - honest).max() > 100


def test_krum_returns_one_of_the_updates() -> None:
    chosen = combine(MultiKrum(faulty=2, kept=1)).astype(np.float32)
    assert any((chosen == row).all() for row in ROWS)


def test_krum_keeps_one_update_if_more_are_expected_to_be_false() -> None:
    for faulty in (2, 3):
        assert any((combine(MultiKrum(faulty=faulty), ROWS[:2]) == row).all() for row in ROWS[:2])


@pytest.mark.parametrize("aggregator", [Median(), TrimmedMean(0.25), MultiKrum(faulty=2)])
def test_robust_averages_are_the_same_range_by_range(
    aggregator: RobustAggregator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fifty parameters in sixteen segments of three or four.
    at_once = combine(aggregator)
    for module in ("robust", "collectives"):
        monkeypatch.setattr(f"aequa_lightning.engine.server.{module}.MAX_ENTRIES", 2 * len(ROWS))
    np.testing.assert_allclose(combine(aggregator), at_once, rtol=0, atol=1e-12)


def test_gram_matrix_equals_that_of_whole_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (2 * len(ROWS), 10**6):
        monkeypatch.setattr("aequa_lightning.engine.server.collectives.MAX_ENTRIES", table)
        found = distributed().gram_matrices()[0].numpy()
        np.testing.assert_allclose(found, ROWS.astype(float) @ ROWS.astype(float).T, rtol=1e-12)


def test_robust_average_of_nobody_is_zero() -> None:
    assert not Median().combine(distributed(ROWS[:0])).any()


def test_robust_options_out_of_range_are_refused() -> None:
    for make in (lambda: TrimmedMean(0.5), lambda: MultiKrum(faulty=-1), lambda: MultiKrum(kept=0)):
        with pytest.raises(InputError):
            make()


def test_trimmed_mean_share_is_not_rounded_down_by_floating_point() -> None:
    values = torch.arange(100.0).square()[:, None]
    assert TrimmedMean(0.29).centre(values).item() == values[29:71].mean().item()
