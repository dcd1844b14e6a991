"""What a round is worth on the server's validation part, with the work spread over the processes."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aequa_lightning.contributions.coalition_models import model_evaluator, round_game
from aequa_lightning.contributions.losses import series_divergence
from aequa_lightning.contributions.values import Coalitions, Utility
from aequa_lightning.engine.evaluation import EVALUATION_BATCH_SIZE, AtWidth, evaluation_batches
from aequa_lightning.engine.local.work import batch_spans
from aequa_lightning.engine.processes.seeding import derive_generator, seed_global_generators
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.exact_sum import ExactSum
from aequa_lightning.runtime.process_settings import evaluating
from aequa_lightning.slimmable.norm import averaging_statistics

# Models of coalitions that exist at the same time: 64, or as many as fit into 64 MiB.
MODELS = 64
MODEL_NUMBERS = 2**24
# Samples of a batch whose mean loss is one of a series, as in FedAVE.
LOSS_BATCH = 64


def validation_gradient(run: Run) -> Tensor:
    """Return the gradient of the full width's validation loss at the server's parameters; a collective operation.

    Args:
        run: The run, between two rounds.

    Returns:
        float64 of shape (P,), on the device; the same bits in every process, for any number of them.
    """
    run.load_server_parameters()
    run.evaluator.calibrate(1.0)
    network, topology = run.classifier.network, run.topology
    validation = run.data.validation()
    parameters = [parameter for parameter in run.classifier.parameters() if parameter.requires_grad]
    total = ExactSum(run.parameters.numel(), topology.device)
    # cuDNN gives recurrent layers no gradient in evaluation; torch's own kernels do.
    recurrent = any(isinstance(part, nn.RNNBase) for part in network.modules())
    kernels = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
    with evaluating(network), torch.enable_grad(), kernels:
        for number, batch in enumerate(evaluation_batches(validation, topology.device)):
            if number % topology.processes != topology.rank:
                continue
            inputs = run.classifier.inputs(batch)
            loss = run.classifier.loss(network(inputs), batch)
            gradients = torch.autograd.grad(loss, parameters)
            total.add(torch.cat([gradient.reshape(-1) for gradient in gradients]), len(inputs) / len(validation))
    return topology.merge_over_processes(total.total).to(topology.device)


def coalition_utility(run: Run, base: Tensor, steps: Tensor, utility: Callable[[Tensor, Tensor], Tensor]) -> Utility:
    """Return the game of a round: what the server's model would be worth had only a coalition taken its steps.

    An absent step is simply missing and the others keep their weights, so that a step of zero is worth nothing.

    Args:
        run: The run, at the end of a round.
        base: Parameters at the start of the round, of shape (P,).
        steps: How far each player moved the server, of shape (N, P); the same in every process.
        utility: (logits, classes) -> worth.

    Returns:
        Worth of coalitions; asking is a collective operation, and the answer is the same in every process.
    """
    topology, network = run.topology, run.classifier.network.full
    inputs, targets = (tensor.to(topology.device) for tensor in run.data.validation().tensors)
    evaluate = model_evaluator(_InBatches(network), inputs, targets, utility)
    batch_size = max(1, min(MODELS, MODEL_NUMBERS // len(base)))
    game = round_game(base, steps, torch.ones(len(steps)), evaluate, batch_size=batch_size)

    def worth_of(coalitions: Coalitions) -> NDArray[np.float64]:
        worth = torch.zeros(len(coalitions), dtype=torch.float64)
        # Norm layers take the statistics of the batch: a coalition's own, at no extra pass over the data.
        with averaging_statistics(network):
            for start in range(topology.rank * batch_size, len(coalitions), topology.processes * batch_size):
                batch = slice(start, start + batch_size)
                worth[batch] = torch.from_numpy(game(coalitions[batch]))
        return topology.merge_over_processes(worth).numpy()

    return worth_of


def own_accuracies(run: Run, updates: Mapping[int, Tensor], base: Tensor, *, clip: float | None = None) -> Tensor:
    """Return the validation score that everybody's own model has after its training; a collective operation.

    Args:
        run: The run, at the end of a round.
        updates: Updates of the participants that this group hosted, by index; of shape (P,).
        base: The server's parameters at the start of the round, of shape (P,).
        clip: Magnitude that every entry of an update is cut to; None: it counts as it is.

    Returns:
        float64 of shape (N,), in [0, 1]; 0 without an update.
    """
    accuracies = torch.zeros(run.data.participants, dtype=torch.float64)
    validation = run.data.validation()
    for index, update in updates.items():
        received, width = received_model(run, index, base), run.widths[index]
        with run.model_at(received + (update if clip is None else update.clamp(-clip, clip))):
            run.evaluator.calibrate(width)
            accuracies[index] = run.evaluator.score(width, validation).value
    return run.topology.merge(accuracies)


def loss_divergences(run: Run, updates: Mapping[int, Tensor], base: Tensor) -> Tensor:
    """Return how far batch losses on everybody's own data are from those on the validation part (FedAVE).

    The model is the one that a participant started the round from. Both parts are shuffled anew in every round and cut
    into batches of 64, or into smaller ones, the same for all, where somebody's data would not fill four.

    Args:
        run: The run, at the end of a round.
        updates: Updates of the participants that this group hosted, by index.
        base: The server's parameters at the start of the round, of shape (P,).

    Returns:
        Divergences in nats, float64 of shape (N,), infinite for participants with a single sample; a collective
        operation. Also infinite without an update.
    """
    validation = run.data.validation().tensors
    size = max(1, min(LOSS_BATCH, min(run.samples) // 4, len(validation[0]) // 4))
    divergences = torch.zeros(run.data.participants, dtype=torch.float64)
    for index in updates:
        width = run.widths[index]
        with run.model_at(received_model(run, index, base)):
            run.evaluator.calibrate(width)
            network = AtWidth(run.classifier.network, width)
            # Inverse, so that the sum over groups merges those who are hosted elsewhere.
            own, servers = (
                _batch_losses(run, network, samples, size=size, keys=(role, run.round, index))
                for role, samples in (("own losses", run.participant(index)), ("validation losses", validation))
            )
        divergences[index] = 1 / max(series_divergence(own, servers), 1e-12)
    return 1 / run.topology.merge(divergences)


def received_model(run: Run, index: int, base: Tensor) -> Tensor:
    """Return the parameters that a participant started the round from, zero outside of its width, of shape (P,).

    Args:
        run: The run.
        index: The participant.
        base: The server's parameters at the start of the round, of shape (P,).
    """
    received, width = base if run.models is None else run.models[index], run.widths[index]
    return received if width == 1 else received * run.masks.mask(width)


@torch.no_grad()
def _batch_losses(
    run: Run, network: nn.Module, samples: Sequence[Tensor], *, size: int, keys: Sequence[str | int]
) -> list[float]:
    """Return the mean loss of each batch of shuffled samples."""
    inputs, targets = samples
    order = torch.randperm(len(inputs), generator=derive_generator(run.config.seed, *keys))
    device, losses = run.topology.device, []
    seed_global_generators(0, device)
    with evaluating(network):
        for places in order.split(size):
            batch = inputs[places.to(inputs.device)].to(device), targets[places.to(targets.device)].to(device)
            losses.append(run.classifier.loss(network(run.classifier.inputs(batch)), batch).item())
    return losses


class _InBatches(nn.Module):
    """A network that takes its input in evaluation batches, whatever the number of samples."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        spans = batch_spans(len(inputs), EVALUATION_BATCH_SIZE)
        return torch.cat([self.network(inputs[start:end]) for start, end in spans])
