"""Trains several participants at once: every step computes with a stack of their networks.

A step of a small network spends most of its time on launching small operations. Participants with such networks are
stacked: their parameters get a leading dimension, and ``torch.func.vmap`` computes one operation for all of them. Each
participant has the batches, widths and random numbers that it has in :class:`LocalTrainer`, so that the result is the
same up to rounding.
"""

import copy
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.optim import Optimizer

from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.processes.seeding import position_of_other_generators
from aequa_lightning.engine.stacking.operations import StackableOperations
from aequa_lightning.engine.stacking.schedule import Job, StackBatch, StackSchedule, index_of
from aequa_lightning.errors import InputError
from aequa_lightning.modules.task import StackedLoss
from aequa_lightning.slimmable import Distillation, SandwichRule
from aequa_lightning.slimmable.sandwich import StepLosses

Network = Callable[[Mapping[str, Tensor], Any], Any]

# Memory order of the dimensions of stacked weights, by their number: that of their gradients, because tensors of the
# same layout are added fastest. Channels-last convolutions write gradients with the input channels last, matrix
# products with the outputs last.
GRADIENT_LAYOUT = {3: (0, 2, 1), 5: (0, 1, 3, 4, 2)}


def form_stacks(
    participants: Sequence[int], widths: Sequence[float], samples: Sequence[int], size: int
) -> list[list[int]]:
    """Divide a round's participants into stacks of one width each, and of similar numbers of samples.

    Rounding may depend on the members of a stack, so the stacks depend on the participants only.

    Args:
        participants: Those of the round, ascending.
        widths: The width that each of them holds.
        samples: Number of training samples of each.
        size: Most participants of a stack, >= 1.

    Returns:
        The stacks, those of one width of nearly equal size; in each the most samples come first. Several stacks of one
        width are an even number, so that two processes have equal work.

    Example:
        >>> form_stacks([4, 5, 6, 7, 8], [1.0, 1.0, 0.5, 1.0, 1.0], [30, 10, 10, 20, 40], 3)
        [[8, 4], [7, 5], [6]]
        >>> form_stacks([4, 5, 6], [1.0, 1.0, 0.5], [30, 10, 40], 1)
        [[4], [5], [6]]
        >>> form_stacks(list(range(10)), [1.0] * 10, [5] * 10, 2)
        [[0], [1, 2], [3, 4], [5], [6, 7], [8, 9]]
    """
    order = sorted(zip(widths, (-count for count in samples), participants, strict=True))
    stacks = []
    for _, group in itertools.groupby(order, key=lambda entry: entry[0]):
        members = [participant for *_, participant in group]
        count = -(-len(members) // size)
        count = min(count + count % 2, len(members)) if count > 1 else 1
        cuts = [len(members) * number // count for number in range(count + 1)]
        stacks += [members[start:end] for start, end in itertools.pairwise(cuts)]
    return sorted(stacks, key=min)


class StackedTrainer:
    """Trains a stack of participants as :class:`LocalTrainer` trains them one by one.

    Args:
        local: Has the model and the optimizer that are used; their values do not change.
    """

    def __init__(self, local: LocalTrainer) -> None:
        self.local, self.network = local, local.classifier.network
        self._parameters = {
            name: parameter for name, parameter in self.network.full.named_parameters() if parameter.requires_grad
        }
        self._sizes = [parameter.numel() for parameter in self._parameters.values()]

    def train(
        self,
        start: Tensor,
        jobs: Sequence[Job],
        *,
        grid: Sequence[float],
        distillation: Distillation | None = None,
    ) -> tuple[list[float], Tensor]:
        """Train participants with fresh optimizers.

        Args:
            start: Start parameters of each participant, shape (participants, P).
            jobs: The work of each participant.
            grid: Widths that the steps draw from.
            distillation: Replaces the model's own; None: the model's own.

        Returns:
            Each participant's mean loss over steps and widths, and the updates (end minus start), shape
            (participants, P).

        Raises:
            InputError: The network draws random numbers that the participants would share.
        """
        self.local.set_training_mode()
        # A draw from NumPy's or Python's generator would be the same for the whole stack; vmap refuses torch's itself.
        before = position_of_other_generators()
        schedule = StackSchedule(self.local, jobs, grid)
        begin = self._by_name(_reordered(start, schedule.order))
        values = {name: _in_gradient_layout(value) for name, value in begin.items()}
        optimizer = self._stacked_optimizer(values)
        rule = self.local.classifier.rule.with_distillation(distillation)
        teacher = None if rule.distillation is None else rule.distillation.teacher
        teachers = () if teacher is None else (teacher,)
        networks = {width: self._stack_of(width) for width in (*grid, *teachers)}
        loss = self.local.classifier.stacked_loss(
            [(jobs[place].inputs, jobs[place].targets) for place in schedule.order]
        )
        updates, losses = start.new_empty(start.shape), start.new_zeros(len(jobs))
        moved = self._by_name(updates)
        for step in range(len(schedule.active) - 1):
            optimizer.zero_grad()
            for batch in schedule.batches(step):
                self._accumulate(networks, values, losses, batch, rule, loss)
            optimizer.step()
            # Rows without further steps still move with the others, so their updates are stored now.
            ended = slice(schedule.active[step + 1], schedule.active[step])
            if ended.start < ended.stop:
                for name, value in values.items():
                    torch.sub(value[ended], begin[name][ended], out=moved[name][ended])
        if position_of_other_generators() != before:
            raise InputError(
                "trainer.stacking: the network draws random numbers from NumPy's or Python's generator, and a stack "
                "would give all its participants the same ones; set it to off."
            )
        means = losses / torch.tensor(schedule.steps, device=losses.device)
        return means[schedule.places].tolist(), _reordered(updates, schedule.places)

    def _by_name(self, table: Tensor) -> dict[str, Tensor]:
        """Return a table of flat parameters, (participants, P), as views in the parameters' own shapes."""
        parts = zip(self._parameters.items(), table.split(self._sizes, dim=1), strict=True)
        return {name: part.unflatten(1, parameter.shape) for (name, parameter), part in parts}

    def _stack_of(self, width: float) -> Network:
        """Return the networks of a width as one function of stacked parameters and inputs."""
        stacked, precision = vmap(self.network.functional(width)), self.local.fabric.strategy.precision

        def compute(values: Mapping[str, Tensor], inputs: Tensor) -> Any:
            inputs = precision.convert_input(inputs)
            # Only the network is computed within: the mode slows down every operation.
            with StackableOperations(), precision.forward_context():
                outputs = stacked(values, inputs)
            return precision.convert_output(outputs)

        return compute

    def _accumulate(
        self,
        networks: Mapping[float, Network],
        values: Mapping[str, Tensor],
        losses: Tensor,
        batch: StackBatch,
        rule: SandwichRule,
        loss: StackedLoss,
    ) -> None:
        """Add the gradients of one sandwich step to those of the stacked values, and the losses to the stack's.

        Each row does what ``sandwich_step`` does; rows that drew the same width are computed together.
        """
        drawn = sorted({width for widths in batch.widths for width in widths}, reverse=True)
        weights = {width: weight for widths in batch.widths for width, weight in rule.loss_weights(widths).items()}

        def taken(rows: slice | Tensor) -> dict[str, Tensor]:
            return {name: value[rows] for name, value in values.items()}

        def teach(width: float) -> Tensor:
            outputs: Tensor = networks[width](taken(index_of(batch.rows, losses.device)), batch.inputs)
            return outputs

        width_loss = StepLosses(rule.distillation, drawn, teach)
        for width in drawn:
            places = [place for place, widths in enumerate(batch.widths) if width in widths]
            rows = index_of([batch.rows[place] for place in places], losses.device)
            some = index_of(places, losses.device)
            parts = {name: value.detach().requires_grad_() for name, value in taken(rows).items()}
            inputs = batch.inputs[some]
            outputs = networks[width](parts, inputs)
            of_each = width_loss(width, outputs, loss(outputs, (inputs, batch.targets[some]), rows), rows=some)
            gradients = torch.autograd.grad(of_each.sum() * weights[width], list(parts.values()))
            for value, gradient in zip(values.values(), gradients, strict=True):
                _add_gradient(value, rows, gradient)
            losses[rows] += of_each.detach().to(losses.dtype) / len(batch.widths[0])

    def _stacked_optimizer(self, values: dict[str, Tensor]) -> Optimizer:
        """Return a fresh optimizer of the stacked values with the current options of the local trainer's optimizer."""
        names = {id(parameter): name for name, parameter in self._parameters.items()}
        optimizer = copy.copy(self.local.optimizer.optimizer)
        optimizer.state = defaultdict(dict)
        optimizer.param_groups = [
            {**group, "params": [values[names[id(parameter)]] for parameter in group["params"]]}
            for group in optimizer.param_groups
        ]
        return optimizer


def _in_gradient_layout(values: Tensor) -> Tensor:
    """Return a copy of stacked parameters in the memory layout of their gradients."""
    order = GRADIENT_LAYOUT.get(values.ndim, range(values.ndim))
    places = [order.index(dimension) for dimension in range(values.ndim)]
    return values.permute(*order).clone(memory_format=torch.contiguous_format).permute(places)


def _reordered(table: Tensor, rows: list[int]) -> Tensor:
    """Return the rows of a table in another order; the table itself when the order is unchanged."""
    return table if rows == list(range(len(rows))) else table[rows]


def _add_gradient(value: Tensor, rows: slice | Tensor, gradient: Tensor) -> None:
    """Add the gradient of some rows of a stacked parameter to its own."""
    if value.grad is None and len(gradient) == len(value):
        value.grad = gradient
        return
    if value.grad is None:
        value.grad = torch.zeros_like(value)
    value.grad[rows] += gradient
