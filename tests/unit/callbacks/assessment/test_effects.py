"""What updates do on the classes that participants say they have, against a loss computed by hand."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import vector_to_parameters

from aequa_lightning.callbacks.assessment import effects
from aequa_lightning.callbacks.assessment.effects import claimed_effects
from aequa_lightning.engine.run import Run


def _by_hand(run: Run, parameters: Tensor, index: int) -> float:
    network = copy.deepcopy(run.classifier.network.full).double().eval()
    vector_to_parameters(parameters.double(), network.parameters())
    inputs, targets = run.data.validation().tensors
    with torch.no_grad():
        losses = functional.cross_entropy(network(inputs.double()), targets, reduction="none").clamp(max=10)
    counts = run.data.class_counts()[index]
    return sum(float(losses[targets == c].mean()) * counts[c] for c in range(10)) / counts.sum()


def test_effects_are_the_losses_of_opposite_and_update(run: Run, honest: Tensor) -> None:
    found = claimed_effects(run, {0: honest[0], 3: 100 * honest[3]})
    for index, update in ((0, honest[0]), (3, 100 * honest[3])):
        after, opposite = (_by_hand(run, run.parameters + sign * update, index) for sign in (1, -1))
        assert found[index] == pytest.approx(opposite - after, abs=1e-4)
    assert found[[1, 2, 4]].tolist() == [0, 0, 0]
    # The model is left as the server's.
    assert torch.equal(run.local.parameters, run.parameters)


def test_a_narrow_participant_is_looked_at_in_what_it_holds(run: Run, honest: Tensor) -> None:
    run.progress.widths = [0.5, 1.0, 1.0, 1.0, 1.0]
    update = honest[0] * run.masks.mask(0.5)
    narrow = run.classifier.network
    inputs, targets = run.data.validation().tensors
    expected = []
    for sign in (-1, 1):
        run.local.parameters.copy_(run.parameters + sign * update)
        with torch.no_grad():
            losses = functional.cross_entropy(narrow(inputs, 0.5), targets, reduction="none").clamp(max=10)
        counts = run.data.class_counts()[0]
        expected.append(sum(float(losses[targets == c].mean()) * counts[c] for c in range(10)) / counts.sum())
    run.load_server_parameters()
    assert claimed_effects(run, {0: update})[0] == pytest.approx(expected[0] - expected[1], abs=1e-4)


def test_an_update_that_ends_in_nothing_finite_counts_as_the_largest_loss(run: Run, honest: Tensor) -> None:
    assert claimed_effects(run, {0: 1e30 * honest[0]}).isfinite().all()


def test_samples_are_spread_over_data_that_lie_in_order(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    inputs, targets = run.data.validation().tensors
    order = targets.argsort()
    subset = effects._spread(torch.utils.data.TensorDataset(inputs[order], targets[order]), 20)
    assert len(subset) == 20
    assert len(subset.tensors[1].unique()) == 10
