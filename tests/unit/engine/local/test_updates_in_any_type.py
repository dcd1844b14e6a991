"""Everything that updates pass through, in each floating-point type, against the same numbers in exact arithmetic."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from scipy import stats
from torch import Tensor, nn

from aequa_lightning.contributions.cosine import cosines
from aequa_lightning.engine.local.corrections import Corrector, FedProx, Scaffold
from aequa_lightning.engine.local.model_checks import check_types
from aequa_lightning.engine.local.state import ParticipantStates
from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.engine.server.aggregators import Aggregator, FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi
from aequa_lightning.engine.server.collectives import DistributedUpdates
from aequa_lightning.engine.server.exact_sum import CHUNK, ExactSum, are_valid
from aequa_lightning.engine.server.masks import WidthMasks
from aequa_lightning.engine.server.privacy import clip_to_norm
from aequa_lightning.engine.server.robust import Median, MultiKrum, TrimmedMean
from aequa_lightning.engine.server.server import Server
from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.rewards.files.leaks import count_words, withheld_words
from aequa_lightning.slimmable import SlimmableModel

TYPES = (torch.float32, torch.float64, torch.bfloat16)
every_type = pytest.mark.parametrize("dtype", TYPES, ids=str)


def some_updates(dtype: torch.dtype, size: int = 40) -> Tensor:
    return torch.randn(5, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def topology() -> Topology:
    return Topology(Fabric(accelerator="cpu", devices=1))


def some_network(dtype: torch.dtype) -> SlimmableModel:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    return SlimmableModel(layers, [1, 0.5], torch.zeros(1, 3)).to(dtype)


@every_type
@pytest.mark.parametrize("size", [40, CHUNK + 3])
def test_types_exact_sum_leaves_updates_unchanged(dtype: torch.dtype, size: int) -> None:
    updates, weights = some_updates(dtype, size), [0.1, 0.2, 0.3, 0.15, 0.25]
    before, total = updates.clone(), ExactSum(size, torch.device("cpu"))
    assert are_valid(updates) == [True] * 5
    for update, weight in zip(updates, weights, strict=True):
        total.add(update, weight)
    assert torch.equal(updates, before)
    for column in (0, 17, size - 1):
        exact = sum(Fraction(w) * Fraction(float(u)) for w, u in zip(weights, before[:, column], strict=True))
        assert abs(float(exact) - float(total.total[column])) < 5 * 2.0**-40


@every_type
def test_types_gram_matrix_and_cosines_equal_numpy(dtype: torch.dtype) -> None:
    updates = some_updates(dtype)
    rows, given = updates.double().numpy(), dict(enumerate(updates))
    gram = DistributedUpdates(given, list(given), topology(), size=40, dtype=dtype).gram_matrices()[0]
    np.testing.assert_allclose(gram, rows @ rows.T, rtol=1e-12, atol=1e-13)
    mean = rows.mean(0)
    lengths = torch.from_numpy((rows**2).sum(1))
    found = cosines(torch.from_numpy(rows @ mean), lengths, torch.tensor(mean @ mean))
    expected = rows @ mean / np.linalg.norm(rows, axis=1) / np.linalg.norm(mean)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@every_type
def test_types_gathered_updates_are_not_rounded(dtype: torch.dtype) -> None:
    updates = some_updates(dtype)
    distributed = DistributedUpdates(dict(enumerate(updates)), [3, 1], topology(), size=40, dtype=dtype)
    table = distributed.gather(5, 25)
    assert table.dtype == dtype
    assert torch.equal(table, updates[[3, 1], 5:25])


@every_type
def test_types_robust_averages_equal_numpy(dtype: torch.dtype) -> None:
    updates = some_updates(dtype)
    rows, given = updates.double().numpy(), dict(enumerate(updates))
    median, trimmed, krum = (
        aggregator.combine(DistributedUpdates(given, list(given), topology(), size=40, dtype=dtype))
        for aggregator in (Median(), TrimmedMean(0.2), MultiKrum(faulty=1, kept=5))
    )
    np.testing.assert_allclose(median, np.median(rows, axis=0), rtol=1e-12)
    np.testing.assert_allclose(trimmed, stats.trim_mean(rows, 0.2), rtol=1e-12)
    np.testing.assert_allclose(krum, rows.mean(axis=0), rtol=1e-12, atol=1e-15)


@every_type
@pytest.mark.parametrize("aggregator", [FedAvg(), FedAvgM(), FedAdagrad(), FedAdam(), FedYogi()], ids=repr)
def test_types_server_steps_as_in_float64(dtype: torch.dtype, aggregator: Aggregator) -> None:
    """Three rounds, each of the same mean updates; a type's own rounding is all that may differ."""
    moved: dict[torch.dtype, Tensor] = {}
    start = torch.cat([value.detach().reshape(-1) for value in some_network(dtype).full.parameters()])
    for kind in (dtype, torch.float64):
        model = some_network(kind)
        server = Server(start.to(kind, copy=True), aggregator, WidthMasks(model, torch.device("cpu")), topology())
        for _ in range(3):
            updates = some_updates(dtype, len(start)) / 8
            server.receive(range(5), updates.to(kind))
            kept = {index: update.clone() for index, update in server.updates.items()}
            server.step(*server.combine(dict.fromkeys(range(5), 0.2), [1.0] * 5))
            assert all(torch.equal(kept[index], update) for index, update in server.updates.items())
            server.forget_updates()
        moved[kind] = server.parameters.double()
        assert server.parameters.dtype == kind
    torch.testing.assert_close(moved[dtype], moved[torch.float64], rtol=0, atol=20 * torch.finfo(dtype).eps)


@every_type
def test_types_clipping_keeps_the_direction_and_the_update(dtype: torch.dtype) -> None:
    update = some_updates(dtype)[0]
    before = update.clone()
    clipped = clip_to_norm(update, 0.5)
    assert clipped.dtype == dtype
    assert torch.equal(update, before)
    assert float(clipped.double().norm()) == pytest.approx(0.5, rel=torch.finfo(dtype).eps)


def _variates(dtype: torch.dtype, build: Callable[[Tensor], Corrector]) -> tuple[Tensor, Tensor | None]:
    parameter = nn.Parameter(torch.zeros(40, dtype=dtype))
    corrector = build(parameter.detach())
    corrector.start(parameter.detach() - 0.5, None)
    parameter.grad = some_updates(dtype)[0].clone()
    corrector([parameter])
    corrected, kept = parameter.grad.clone(), corrector.finish()
    corrector.commit()
    corrector.end_round(topology())
    if kept is not None:
        assert torch.equal(kept, some_updates(dtype)[0])
        corrector.start(parameter.detach(), torch.zeros_like(kept))
        parameter.grad = torch.zeros(40, dtype=dtype)
        corrector([parameter])
        torch.testing.assert_close(parameter.grad, some_updates(dtype)[0] / 2)
    return corrected, kept


@every_type
def test_types_corrections_keep_the_type_of_gradients(dtype: torch.dtype) -> None:
    corrected, _ = _variates(dtype, lambda vector: FedProx(0.25).build(vector, 2))
    torch.testing.assert_close(corrected, some_updates(dtype)[0] + 0.125)
    corrected, kept = _variates(dtype, lambda vector: Scaffold().build(vector, 2))
    assert torch.equal(corrected, some_updates(dtype)[0])
    assert kept is not None


@every_type
def test_types_participant_state_returns_bit_by_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    kept = {"variate": some_updates(dtype)[0], "optimizer": {0: {"step": torch.tensor(3.0), "square": torch.ones(2)}}}
    memory = ParticipantStates(tmp_path, ["a"], deletes=True)
    memory.save(0, 1, kept)
    memory.commit([0], 1)
    back = memory.load(0)
    assert back["variate"].dtype == dtype
    assert torch.equal(back["variate"], kept["variate"])
    assert torch.equal(back["optimizer"][0]["square"], torch.ones(2))


@every_type
def test_types_audit_finds_withheld_entries(dtype: torch.dtype, tmp_path: Path) -> None:
    network = some_network(dtype)
    plan, full = network.plan(0.5), dict(network.full.named_parameters())
    words = withheld_words(plan, full)
    for name, module, found in (("narrow", network.extract(0.5), 0), ("full", network.full, len(words))):
        torch.save(module.state_dict(), tmp_path / name)
        assert count_words((tmp_path / name).read_bytes(), words) == found
    assert len(words)


class _Layers(nn.Module):
    def __init__(self, first: torch.dtype, second: torch.dtype, *, converts: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8, dtype=first), nn.Linear(8, 3, dtype=second)
        self.converts = converts

    def forward(self, inputs: Tensor) -> Tensor:
        given = inputs.to(self.first.weight.dtype) if self.converts else inputs
        return self.second(self.first(given).relu().to(self.second.weight.dtype))


def classifier(first: torch.dtype, second: torch.dtype, *, converts: bool = True) -> SlimmableClassifier:
    model = SlimmableClassifier(3, (8,), backbone="mlp", widths=[1.0, 0.5])
    model.network = SlimmableModel(_Layers(first, second, converts=True), [1.0, 0.5], torch.zeros(1, 8))
    model.network.full.converts = converts
    return model


def test_types_that_cannot_be_averaged_are_refused_by_name() -> None:
    float32, float64, bfloat16 = TYPES
    check_types(classifier(float32, float32))
    check_types(classifier(float64, float64))
    with pytest.raises(InputError, match=r"first\.weight in torch\.float64 and .*second\.weight in torch\.float32"):
        check_types(classifier(float64, float32))
    with pytest.raises(InputError, match=r"in torch\.bfloat16, which rounds .* trainer\.precision=bf16-mixed"):
        check_types(classifier(bfloat16, bfloat16))
    with pytest.raises(InputError, match=r"but data are in torch\.float32"):
        check_types(classifier(float64, float64, converts=False))
    model = classifier(float32, float32)
    model.requires_grad_(False)
    with pytest.raises(InputError, match="no parameter that can be trained"):
        check_types(model)
    with torch.inference_mode():
        model.network.full.first.weight = nn.Parameter(torch.zeros(8, 8))
    with pytest.raises(InputError, match="inference_mode"):
        check_types(model)
