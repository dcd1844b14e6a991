"""Payment in rounds: every participant receives the model from which it starts the next round."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aequa_lightning.engine.callback import RoundResult
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.processes.assignment import assign
from aequa_lightning.engine.processes.seeding import derive_seed
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.collectives import DistributedUpdates
from aequa_lightning.mechanisms.payment import Layer, Payment, RoundContext
from aequa_lightning.mechanisms.targets import Target


def deliver(
    run: Run,
    result: RoundResult,
    target: Target,
    payment: Payment,
    *,
    contributions: Sequence[float],
    previous: Sequence[float],
    likeness: Sequence[float],
    held: Tensor | None = None,
) -> Tensor | None:
    """Write into ``run.models`` what everybody whose update was accepted starts the next round from.

    A collective operation.

    The updates travel parameter by parameter, so that no process ever holds all of them.

    Args:
        run: The run, at the end of a round.
        result: The round.
        target: What share of the reward a contribution deserves.
        payment: How the share becomes a model.
        contributions: By the mechanism's measure, as they stand after the round, of all participants of the run.
        previous: The same before the round.
        likeness: Of the losses on everybody's data to those on the validation part, of all participants, in [0, 1].
        held: Which entries everybody is sent, bool of shape (N, P), where the payment is in sub-models.

    Returns:
        After the last round of a payment with fine-tuning: everybody's fine-tuned model, of shape (N, P); else None.
    """
    assert run.models is not None
    accepted = list(result.weights)
    if accepted:
        shares = target.shares(contributions, round=result.round, likeness=likeness)
        context = _round_context(run, result, shares, contributions=contributions, previous=previous)
        if payment.ranks_whole_step:
            steps = [payment.step(layer, context) for layer, _ in _layers(run, result, held)]
            context = replace(context, cutoffs=payment.cutoffs(torch.cat(steps), context))
        for layer, entries in _layers(run, result, held):
            run.models[accepted, entries] = payment.deliver(layer, context)
    is_last = result.round == run.config.max_rounds
    return _adapted(run, payment.final_epochs) if payment.final_epochs and is_last else None


def _layers(run: Run, result: RoundResult, held: Tensor | None) -> Iterator[tuple[Layer, slice]]:
    """Yield every parameter of those who were accepted and its entries in the vector; a collective operation."""
    assert run.models is not None
    accepted = list(result.weights)
    size, dtype = len(run.parameters), run.parameters.dtype
    updates = DistributedUpdates(result.updates, accepted, run.topology, size=size, dtype=dtype)
    for name, place, shape, start, end in parameters_in_order(run.classifier):
        layer = Layer(
            name,
            place,
            shape,
            models=run.models[accepted, start:end],
            updates=updates.gather(start, end),
            server=run.parameters[start:end],
            held=None if held is None else held[accepted, start:end],
        )
        yield layer, slice(start, end)


def _round_context(
    run: Run,
    result: RoundResult,
    shares: NDArray[np.float64],
    *,
    contributions: Sequence[float],
    previous: Sequence[float],
) -> RoundContext:
    accepted = list(result.weights)
    norms = torch.zeros(len(contributions), dtype=torch.float64)
    for index, update in result.updates.items():
        norms[index] = update.double().norm().cpu()
    norms = run.topology.merge(norms)
    weights = torch.tensor([result.weights[index] for index in accepted], dtype=torch.float64)
    return RoundContext(
        round=result.round,
        seeds=[derive_seed(run.config.seed, "delivery", result.round, index) for index in accepted],
        weights=weights / weights.sum(),
        contributions=torch.tensor([max(0.0, contributions[index]) for index in accepted], dtype=torch.float64),
        shares=torch.from_numpy(shares[accepted]),
        norms=norms[accepted],
        previous=torch.tensor([previous[index] for index in accepted], dtype=torch.float64),
        is_last=result.round == run.config.max_rounds,
    )


def _adapted(run: Run, epochs: int) -> Tensor:
    """Return everybody's model trained on its own data; part of the last round, so that the checkpoint holds it.

    It trains at that round's rates: a schedule may end at zero, or not go on.
    """
    assert run.models is not None
    adapted = torch.zeros_like(run.models)
    for index in assign(run.samples, run.topology.groups)[run.topology.group]:
        with run.local.with_options(run.schedule[-1]):
            run.local.train(
                run.models[index],
                run.participant(index),
                work=LocalWork(epochs),
                keys=("adaptation", index),
                grid=run.grid,
            )
        adapted[index] = run.local.parameters
    # Every row is zero in all groups but one: the sum only carries it there.
    run.topology.sum_over_groups(adapted)
    run.load_server_parameters()
    return adapted


def parameters_in_order(module: nn.Module) -> Iterator[tuple[str, int, tuple[int, ...], int, int]]:
    """Yield every trainable parameter as it lies in the flat vector.

    Args:
        module: The model.

    Yields:
        Name, place of its layer counted from the output, shape, first and one past the last entry.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
        >>> list(parameters_in_order(net))
        [('0.weight', 1, (2, 3), 0, 6), ('0.bias', 1, (2,), 6, 8), ('2.weight', 0, (1, 2), 8, 10)]
    """
    trainable = [(name, tuple(value.shape)) for name, value in module.named_parameters() if value.requires_grad]
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in trainable))
    start = 0
    for name, shape in trainable:
        end = start + int(np.prod(shape))
        yield name, len(layers) - 1 - layers.index(name.rpartition(".")[0]), shape, start, end
        start = end
