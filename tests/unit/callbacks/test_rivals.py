"""Each rival over three rounds of planted updates, against its source's formulas written down again in NumPy."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import entropy
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import vector_to_parameters

from aequa_lightning.callbacks.assessment.measures import Assessment
from aequa_lightning.callbacks.assessment.valuation import LOSS_BATCH
from aequa_lightning.callbacks.payout.round_models import parameters_in_order
from aequa_lightning.callbacks.rewards import Rewards
from aequa_lightning.engine.callback import RoundResult
from aequa_lightning.engine.processes.seeding import derive_generator
from aequa_lightning.engine.run import Run
from aequa_lightning.mechanisms import CFFL, CGSV, IAFL, RFFL, FedAVE, LGFedAvg, PaidInRounds, Rank, ShapFed

Finish = Callable[..., RoundResult]
Array = NDArray[np.float64]
ROUNDS = 3


@dataclass
class Play:
    """A run of planted updates.

    Attributes:
        start: What everybody started from, (N, P).
        updates: Of each round, (N, P).
        contributions: After each round, (N,).
        models: After each round, (N, P).
    """

    start: Array
    updates: list[Array]
    contributions: list[Array]
    models: list[Array]


@pytest.fixture
def play(run: Run, honest: Tensor, finish: Finish) -> Callable[[PaidInRounds], Play]:
    """A function that pays by a mechanism for three rounds, without gates."""

    def play(mechanism: PaidInRounds, *, scale: float = 1.0) -> Play:
        run.samples, run.standalone = [60, 40, 20, 50, 50], None
        run.config = replace(run.config, mechanism=mechanism, max_rounds=ROUNDS)
        models = run.parameters + 0.01 * torch.arange(5.0)[:, None]
        run.progress.models = models.clone()
        rewards = Rewards(mechanism, Assessment(measures=(), gates=False))
        rewards.setup(run)
        planted = [scale * honest * torch.arange(1.0, 6.0)[:, None].roll(number, 0) for number in range(ROUNDS)]
        planted = [updates.roll(11 * number, dims=1) for number, updates in enumerate(planted)]
        seen = Play(models.double().numpy(), [one.double().numpy() for one in planted], [], [])
        for updates in planted:
            rewards.on_round_start(run)
            run.server.updates = dict(enumerate(updates))
            rewards.on_updates(run, range(5), ())
            rewards.on_round_end(run, finish(updates))
            seen.contributions.append(np.array(rewards.measures.values(run)[mechanism.contribution]))
            assert run.models is not None
            seen.models.append(run.models.double().numpy().copy())
        return seen

    return play


def layers(run: Run) -> list[slice]:
    return [slice(start, end) for *_, start, end in parameters_in_order(run.classifier)]


def masked(run: Run, step: Array, share: float) -> Array:
    """Keep the largest entries of each layer, as many as the share says, rounded up, but all but one at most."""
    kept = np.zeros_like(step)
    for layer in layers(run):
        largest = np.argsort(-abs(step[layer]))[: min(int(np.ceil(len(step[layer]) * share)), len(step[layer]) - 1)]
        kept[layer][largest] = step[layer][largest]
    return kept


def cosine(first: Array, second: Array) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


SIZES = np.array([60, 40, 20, 50, 50]) / 220


def test_cgsv(run: Run, play: Callable[..., Play]) -> None:
    seen = play(CGSV(beta=2.0, length=0.3))
    reputations, models, weights = np.zeros(5), seen.start.copy(), SIZES
    for updates, contributions, delivered in zip(seen.updates, seen.contributions, seen.models, strict=True):
        scaled = 0.3 * updates / np.linalg.norm(updates, axis=1, keepdims=True)
        aggregate = weights @ scaled
        reputations = 0.95 * reputations + 0.05 * np.array([cosine(one, aggregate) for one in scaled])
        reputations = reputations.clip(min=1e-3)
        reputations /= reputations.sum()
        shares = np.tanh(2 * reputations) / np.tanh(2 * reputations).max()
        models += [masked(run, aggregate, share) for share in shares]
        weights = reputations
        np.testing.assert_allclose(contributions, reputations, atol=1e-9)
        np.testing.assert_allclose(delivered, models, atol=1e-6)


def test_rffl(run: Run, play: Callable[..., Play]) -> None:
    seen = play(RFFL(length=4.0), scale=0.5)
    # Some are shortened and some are not.
    assert (np.linalg.norm(seen.updates[0], axis=1) < 4.0).tolist() == [True, True, False, False, False]
    reputations, models, weights = np.zeros(5), seen.start.copy(), SIZES
    for updates, contributions, delivered in zip(seen.updates, seen.contributions, seen.models, strict=True):
        lengths = np.linalg.norm(updates, axis=1, keepdims=True)
        clipped = np.where(lengths > 4.0, 4.0 * updates / lengths, updates)
        aggregate = weights @ clipped
        reputations = 0.95 * reputations + 0.05 * np.array([cosine(one, aggregate) for one in clipped])
        reputations /= reputations.sum()
        models += clipped + [masked(run, aggregate, share) for share in reputations / reputations.max()]
        weights = reputations
        np.testing.assert_allclose(contributions, reputations, atol=1e-9)
        np.testing.assert_allclose(delivered, models, atol=1e-5)


def head(run: Run) -> tuple[slice, slice]:
    *_, weight, bias = layers(run)
    return weight, bias


@pytest.mark.parametrize("full_for_top", [False, True])
def test_shapfed(run: Run, play: Callable[..., Play], full_for_top: bool) -> None:
    seen = play(ShapFed(full_for_top=full_for_top))
    weight, bias = head(run)

    def rows(vector: Array) -> Array:
        return np.column_stack([vector[weight].reshape(10, 8), vector[bias]])

    gamma, models, weights = None, seen.start.copy(), np.full(5, 0.2)
    for updates, contributions, delivered in zip(seen.updates, seen.contributions, seen.models, strict=True):
        mean = rows(weights @ updates)
        now = np.array([np.mean([cosine(*pair) for pair in zip(rows(one), mean, strict=True)]) for one in updates])
        gamma = now if gamma is None else 0.9 * gamma + 0.1 * now
        weights = gamma / gamma.sum()
        own = models + updates
        share = (gamma / gamma.max() if full_for_top else weights)[:, None]
        models = (1 - share) * own + share * (weights @ own)
        np.testing.assert_allclose(contributions, gamma, atol=1e-8)
        np.testing.assert_allclose(delivered, models, atol=1e-5)


def accuracy(run: Run, vector: Array) -> float:
    inputs, targets = run.data.validation().tensors
    return float((logits(run, vector, inputs).argmax(dim=1) == targets).double().mean())


def logits(run: Run, vector: Array, inputs: Tensor) -> Tensor:
    network = run.classifier.network.full.eval()
    vector_to_parameters(torch.tensor(vector, dtype=torch.float32), network.parameters())
    with torch.no_grad():
        return network(inputs)


def losses(run: Run, vector: Array, samples: Sequence[Tensor], generator: torch.Generator, size: int) -> list[float]:
    inputs, targets = samples
    order = torch.randperm(len(inputs), generator=generator)
    return [functional.cross_entropy(logits(run, vector, inputs[b]), targets[b]).item() for b in order.split(size)]


def divergences(run: Run, models: Array, number: int, size: int) -> Iterator[float]:
    """Yield the divergence of two series of losses as SciPy has it."""
    for index, model in enumerate(models):
        own, server = (
            losses(run, model, samples, derive_generator(0, role, number, index), size)
            for role, samples in (
                ("own losses", run.participant(index)),
                ("validation losses", run.data.validation().tensors),
            )
        )
        count = min(len(own), len(server))
        yield entropy(own[:count], server[:count])


def test_fedave(run: Run, play: Callable[..., Play]) -> None:
    seen = play(FedAVE(beta=3.0, length=0.3))
    reputations, models = np.zeros(5), seen.start.copy()
    # The smallest of the parts, of 20 samples, is to fill four batches.
    size = min(LOSS_BATCH, 20 // 4)
    for number, (updates, contributions, delivered) in enumerate(
        zip(seen.updates, seen.contributions, seen.models, strict=True), 1
    ):
        inverse = 1 / np.array(list(divergences(run, models, number, size)))
        likeness = inverse / inverse.max()
        scores = [accuracy(run, model + update) for model, update in zip(models, updates, strict=True)] * likeness**2
        reputations = scores if number == 1 else 0.95 * reputations + 0.05 * scores
        reputations = reputations.clip(min=1e-3)
        reputations = reputations / reputations.sum()
        aggregate = SIZES @ (0.3 * updates / np.linalg.norm(updates, axis=1, keepdims=True))
        shares = np.tanh(3 * reputations) / np.tanh(3 * reputations).max() * likeness
        if number > 1:
            models += [masked(run, aggregate, share) for share in shares]
        np.testing.assert_allclose(contributions, reputations, atol=1e-6)
        np.testing.assert_allclose(delivered, models, atol=1e-5)


@pytest.mark.parametrize("aggregate", ["mean", "sum"])
def test_cffl(run: Run, play: Callable[..., Play], aggregate: str) -> None:
    seen = play(CFFL(clip=0.4, aggregate=aggregate))  # type: ignore[arg-type]
    reputations, models, left = np.zeros(5), seen.start.copy(), np.ones(5, dtype=bool)
    ratios = SIZES / SIZES.max()
    for number, (updates, contributions, delivered) in enumerate(
        zip(seen.updates, seen.contributions, seen.models, strict=True)
    ):
        clipped = updates.clip(-0.4, 0.4)
        own = models + clipped
        scores = np.array([accuracy(run, model) for model in own])
        reputations = left * (0.8 * reputations + 0.2 * scores / scores[left].sum())
        reputations = np.sinh(5 * (1 + number / ROUNDS) * reputations)
        reputations /= reputations.sum()
        left &= reputations >= 1 / 3 / left.sum()
        reputations *= left
        reputations /= reputations.sum()
        step = left * (SIZES if aggregate == "mean" else 1.0) @ clipped
        models = own
        for index in np.flatnonzero(left):
            count = int(reputations[index] / reputations.max() * ratios[index] * len(step))
            models[index] += np.where(abs(step) >= np.sort(abs(step))[::-1][count - 1] - 1e-6, step, 0)
            models[index] -= (ratios[index] if aggregate == "mean" else 1.0) * clipped[index]
        np.testing.assert_allclose(contributions, reputations, atol=1e-9)
        np.testing.assert_allclose(delivered, models, atol=1e-5)


def test_lg_fedavg_and_iafl_average_all_alike() -> None:
    assert LGFedAvg().averaging == IAFL().averaging == "alike"


def test_rank(run: Run, play: Callable[..., Play]) -> None:
    seen = play(Rank())
    models = seen.start.copy()
    for updates, contributions, delivered in zip(seen.updates, seen.contributions, seen.models, strict=True):
        scores = np.array([accuracy(run, one) for one in models + updates])
        order = np.argsort(scores, kind="stable")
        for place, index in enumerate(order):
            models[index] += updates[order[: place + 1]].mean(axis=0)
        np.testing.assert_allclose(contributions, scores)
        np.testing.assert_allclose(delivered, models, atol=1e-5)
