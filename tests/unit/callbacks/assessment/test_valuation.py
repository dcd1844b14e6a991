"""Gradients and accuracies by which updates are valued."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import vector_to_parameters

from aequa_lightning.callbacks.assessment.valuation import own_accuracies, validation_gradient
from aequa_lightning.contributions import accuracy
from aequa_lightning.engine import evaluation
from aequa_lightning.engine.run import Run


def test_the_gradient_is_that_of_the_mean_loss_whatever_the_batches(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, targets = run.data.validation().tensors
    network = run.classifier.network.full.eval()
    loss = functional.cross_entropy(network(inputs), targets)
    expected = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(network.parameters()))])
    # The last batch is smaller than the others.
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH_SIZE", len(targets) - 7)
    torch.testing.assert_close(validation_gradient(run).float(), expected, atol=1e-6, rtol=1e-4)


def test_a_model_of_one_s_own_is_evaluated_from_where_it_started(run: Run, honest: Tensor) -> None:
    run.progress.models = run.parameters + 0.3 * honest.roll(7, dims=1)
    found = own_accuracies(run, dict(enumerate(honest)), run.parameters.clone())
    inputs, targets = run.data.validation().tensors
    network, expected = run.classifier.network.full.eval(), []
    for model, update in zip(run.models, honest, strict=True):
        vector_to_parameters(model + update, network.parameters())
        expected.append(accuracy(network(inputs), targets).item())
    assert found.tolist() == pytest.approx(expected)
