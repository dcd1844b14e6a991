"""Clipping and noise against their definitions, the spent epsilon against the definition and the library's own way."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

from aequa_lightning.callbacks.assessment.measures import Assessment
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.corrections import Scaffold
from aequa_lightning.engine.participation import Participation
from aequa_lightning.engine.server.aggregators import FedAvg, FedAvgM
from aequa_lightning.engine.server.privacy import Privacy, PrivateAverage, clip_to_norm, spent_epsilon
from aequa_lightning.engine.server.robust import Median
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms import CGSV, Aequa, AequaTraining, Mechanism
from aequa_lightning.trainer.checkpoints import check_same_privacy
from aequa_lightning.trainer.compatibility import check_components
from aequa_lightning.trainer.trainer import CollaborativeTrainer
from tests.helpers.run_config import small_config

COORDINATES = 400_000


@pytest.fixture
def config() -> RunConfig:
    return small_config(Path("run"))


# Options of an optimizer.
RATES = [{"lr": 0.1}]


def average(per_round: int | None = 4, seed: int = 0, settings: str = "") -> PrivateAverage:
    privacy = Privacy(clip=0.5, noise_multiplier=1.2)
    return PrivateAverage(privacy, participants=20, per_round=per_round, seed=seed, settings=settings)


def test_privacy_noise_is_gaussian_with_the_stated_deviation() -> None:
    noise = average().noise(COORDINATES, round=1, rates=RATES).numpy()
    # On the sum of updates 1.2 * 0.5; the sum is divided by 4.
    assert stats.kstest(noise, "norm", args=(0, 1.2 * 0.5 / 4)).pvalue > 1e-3
    # The deviation of a sample of n has a standard error of 1 / sqrt(2 n) of it.
    assert noise.std() == pytest.approx(0.15, rel=4 / math.sqrt(2 * COORDINATES))


def noises(rates: float = 0.1, rounds: Sequence[int] = (1, 2), **options: Any) -> list[torch.Tensor]:
    private = average(**options)
    return [private.noise(COORDINATES, round=number, rates=[{"lr": rates}]) for number in rounds]


def alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) > 4 / math.sqrt(COORDINATES))


def test_privacy_noise_differs_by_round_and_seed() -> None:
    first, second = noises()
    assert all(map(torch.equal, noises(), (first, second)))
    assert not alike(first, second)
    assert not alike(first, noises(seed=1)[0])


@pytest.mark.parametrize("other", [{"rates": 0.2}, {"settings": "fewer local steps"}])
def test_privacy_noise_differs_from_where_two_histories_part(other: dict[str, Any]) -> None:
    # The difference of two different sums with the same noise has none at all.
    assert not any(map(alike, noises(**other), noises()))
    private = average()
    private.noise(COORDINATES, round=1, rates=[{"lr": 0.2}])
    # The second round is done alike, but what was sent in it comes from another first one.
    assert not alike(private.noise(COORDINATES, round=2, rates=RATES), noises()[1])


def test_privacy_clips_updates_to_the_bound() -> None:
    torch.manual_seed(0)
    for length in (1e-3, 0.4999, 0.5, 0.6, 1e4):
        update = torch.nn.functional.normalize(torch.randn(1000), dim=0) * length
        clipped = clip_to_norm(update, 0.5)
        torch.testing.assert_close(clipped, update * min(1.0, 0.5 / float(update.norm())))
        assert float(clipped.double().norm()) <= 0.5 * (1 + 1e-6)


def failing(epsilon: float, deviation: float) -> float:
    """Return the smallest delta of N(0, s^2) against N(1, s^2): the definition, integrated in closed form."""
    above = epsilon * deviation + 1 / (2 * deviation)
    return float(stats.norm.cdf(1 / deviation - above) - math.exp(epsilon) * stats.norm.cdf(-above))


@pytest.mark.parametrize(("noise_multiplier", "rounds"), [(1.0, 1), (4.0, 30)])
def test_privacy_epsilon_with_all_participants(noise_multiplier: float, rounds: int) -> None:
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed (the extra 'privacy')")
    # What all rounds together show is as good as one sight of a participant with noise / sqrt(rounds).
    epsilon = spent_epsilon(noise_multiplier, rounds, delta=1e-5, probability=1)
    assert failing(epsilon, noise_multiplier / math.sqrt(rounds)) == pytest.approx(1e-5, rel=1e-6)


def test_privacy_epsilon_with_sampled_participants() -> None:
    library = pytest.importorskip("dp_accounting", reason="dp-accounting is not installed (the extra 'privacy')")
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.rdp import RdpAccountant

    for noise_multiplier, rounds, probability in ((1.0, 200, 0.05), (0.8, 1000, 0.01)):
        event = library.PoissonSampledDpEvent(probability, library.GaussianDpEvent(noise_multiplier))
        spent = spent_epsilon(noise_multiplier, rounds, delta=1e-5, probability=probability)
        assert spent == pytest.approx(PLDAccountant().compose(event, rounds).get_epsilon(1e-5), abs=2e-3)
        # Another method, which is known to be less tight.
        assert spent < RdpAccountant().compose(event, rounds).get_epsilon(1e-5)
    assert spent_epsilon(1.0, 0, delta=1e-5, probability=0.05) == 0


def test_privacy_spent_by_a_run_follows_from_its_rounds() -> None:
    pytest.importorskip("dp_accounting", reason="dp-accounting is not installed (the extra 'privacy')")
    assert average(4).epsilon(3) == spent_epsilon(1.2, 3, delta=1e-5, probability=4 / 20)
    assert average(None).epsilon(3) == spent_epsilon(1.2, 3, delta=1e-5, probability=1)


def test_privacy_recorded_settings_give_the_epsilon() -> None:
    told = {"clip": 0.5, "noise_multiplier": 1.2, "delta": 1e-5}
    assert average(4).describe() == told | {"sampling_probability": 0.2}
    assert average(None).describe() == told | {"sampling_probability": 1.0}


def test_privacy_without_the_accountant_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(InputError, match=r"pip install 'aequa-lightning\[privacy\]'"):
        CollaborativeTrainer(accelerator="cpu", devices=1, aggregator=FedAvg("uniform"), privacy=Privacy())


PRIVATE: dict[str, Any] = {"aggregator": FedAvg("uniform"), "privacy": Privacy()}


@pytest.mark.parametrize(
    ("mechanism", "changes", "message"),
    [
        (Aequa(), {"aggregator": FedAvgM()}, "FedAvgM weights by samples; set trainer.aggregator.weighting=uniform"),
        (Aequa(), {"aggregator": Median()}, "trainer.aggregator=Median takes none; choose FedAvg"),
        (AequaTraining(), {}, "trainer.mechanism=AequaTraining participants hold others; choose Aequa"),
        (CGSV(), {}, "trainer.mechanism=CGSV participants hold others; choose Aequa"),
        (Aequa(), {"correction": Scaffold()}, "choose FedProx"),
        (Aequa(), {"participants_per_round": 2}, "trainer.participation.sampling=uniform; choose poisson"),
        (
            Aequa(),
            {"participants_per_round": 2, "participation": Participation("samples")},
            "trainer.participation.sampling=samples; choose poisson",
        ),
    ],
)
def test_privacy_refuses_components_that_break_it(
    config: RunConfig, mechanism: Mechanism, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_components(mechanism, replace(config, **(PRIVATE | changes)), Assessment())


def test_privacy_refuses_exclusion_of_flagged_participants(config: RunConfig) -> None:
    with pytest.raises(InputError, match=r"trainer\.assessment\.exclude_flagged=true"):
        check_components(Aequa(), replace(config, **PRIVATE), Assessment(exclude_flagged=True))


def test_privacy_resume_with_less_noise_is_refused(config: RunConfig) -> None:
    private = replace(config, **PRIVATE)
    check_same_privacy(private, {"privacy": private.privacy_per_round})
    # The bound and delta may change: they have no part in what a round spends.
    check_same_privacy(replace(private, privacy=Privacy(clip=2.0, delta=1e-6)), {"privacy": private.privacy_per_round})
    for other in (
        config,
        replace(private, privacy=Privacy(noise_multiplier=0.5)),
        replace(private, participants_per_round=3),
    ):
        with pytest.raises(InputError, match="what both spend together cannot be told"):
            check_same_privacy(other, {"privacy": private.privacy_per_round})


@pytest.mark.parametrize("wrong", [{"clip": 0}, {"noise_multiplier": 0.05}, {"delta": 0}, {"delta": 1}])
def test_privacy_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=rf"trainer\.privacy\.{next(iter(wrong))}="):
        Privacy(**wrong)


def test_privacy_delta_above_one_over_participants_is_refused() -> None:
    Privacy(delta=1e-3).check(999)
    with pytest.raises(InputError, match=r"trainer\.privacy\.delta=0\.001 must be below 1 / data\.participants"):
        Privacy(delta=1e-3).check(1000)
