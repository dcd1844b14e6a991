"""Training-time rewards: what is withheld is neither received, nor read, nor averaged."""

import pytest
import torch
from lightning.fabric import Fabric
from torch.nn import functional

from aequa_lightning.engine.local.trainer import FlatParameters, LocalTrainer
from aequa_lightning.engine.local.work import LocalWork, batches
from aequa_lightning.engine.processes.seeding import derive_seed
from aequa_lightning.engine.server.masks import WidthMasks, held_entries
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.slimmable import Distillation, SlimmableModel

CPU = torch.device("cpu")


def _classifier() -> SlimmableClassifier:
    torch.manual_seed(0)
    options = {"norm": "none"}
    return SlimmableClassifier(4, (1, 8, 8), backbone="cnn3", backbone_options=options, widths=[1.0, 0.75, 0.5, 0.25])


def _sample(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 8, 8, generator=generator), torch.randint(0, 4, (count,), generator=generator)


def test_mask_equals_the_parameters_of_the_extracted_network() -> None:
    network = _classifier().network
    flat = FlatParameters(network).vector
    for width in (0.25, 0.3, 0.61, {"0": 0.25, "3": 0.61}, 1.0):
        held = flat[held_entries(network, width)]
        extracted = torch.cat([value.reshape(-1) for value in network.extract(width).parameters()])
        assert torch.equal(held, extracted)


def _train(outside: float, distillation: Distillation | None = None) -> torch.Tensor:
    local = LocalTrainer(Fabric(accelerator="cpu", devices=1), _classifier(), batch_size=8, seed=0)
    mask = held_entries(local.classifier.network, 0.5)
    local.parameters[~mask] = outside
    work, start = LocalWork(epochs=2), local.parameters.clone()
    local.train(start, _sample(), work=work, keys=("test",), grid=(0.5, 0.25), distillation=distillation)
    assert (local.parameters[~mask] == outside).all() or torch.isnan(torch.tensor(outside))
    return local.parameters[mask].clone()


@pytest.mark.parametrize("distillation", [None, Distillation(0.5, teacher=0.25)])
def test_mask_withheld_entries_are_never_read_in_training(distillation: Distillation | None) -> None:
    held = _train(0.0, distillation)
    assert torch.equal(held, _train(1e6, distillation))
    assert torch.equal(held, _train(float("nan"), distillation))


def test_mask_training_equals_training_the_extracted_network() -> None:
    """Against the extracted network as a slimmable model of its own, in a plain loop."""
    classifier = _classifier()
    half = classifier.network.extract(0.5)
    optimizer = torch.optim.Adam(half.parameters(), lr=1e-3)
    inputs, targets = _sample()
    seed = derive_seed(0, "test")
    # A quarter of the whole is half of the half: 16, 32 and 64 channels divide evenly.
    own = SlimmableModel(half, [1.0, 0.5], torch.zeros(1, 1, 8, 8))
    for batch in batches(len(targets), LocalWork(epochs=2), 8, seed=seed):
        optimizer.zero_grad()
        for width in (1.0, 0.5):
            (functional.cross_entropy(own(inputs[batch], width), targets[batch]) / 2).backward()
        optimizer.step()
    expected = torch.cat([value.detach().reshape(-1) for value in half.parameters()])
    torch.testing.assert_close(_train(0.0), expected, atol=1e-6, rtol=0)


def test_mask_coverage_averages_over_those_who_hold_an_entry() -> None:
    network = _classifier().network
    masks, size = WidthMasks(network, CPU), sum(p.numel() for p in network.parameters())
    widths, weights = [1.0, 0.5, 0.25, 0.5], {0: 0.1, 1: 0.2, 3: 0.4}
    coverage = masks.coverage(weights, widths)
    expected = torch.zeros(size, dtype=torch.float64)
    for index, weight in weights.items():
        expected += weight * held_entries(network, widths[index])
    torch.testing.assert_close(coverage, expected)
    assert coverage.min() == 0.1
    assert masks.coverage({0: 0.5, 1: 0.5}, [1.0, 1.0]).shape == ()
    assert masks.count(0.5) == int(held_entries(network, 0.5).sum())
