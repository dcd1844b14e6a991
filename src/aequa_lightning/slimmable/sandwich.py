"""The sandwich rule: every step trains the full width, the smallest, and random ones between, on their summed losses.

Source: Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019,
sections 3.2 and 3.3.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable.borrowed_slices import accumulating

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Distillation:
    """In-place distillation: some widths of a step learn from the outputs of another width.

    Attributes:
        weight: Share of the distillation loss in a student's loss, in [0, 1]; the rest is its loss against the targets.
        temperature: Divides the logits of teacher and student, > 0.
        teacher: The width that all wider ones learn from; None: the full width, which all narrower ones learn from.

    Raises:
        InputError: An attribute is out of range.
    """

    weight: float = 1.0
    temperature: float = 1.0
    teacher: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise InputError(f"model.distillation={self.weight} is outside [0, 1]; 0 turns it off.")
        if not self.temperature > 0:
            raise InputError(f"model.temperature={self.temperature} must be above 0; 1 leaves the outputs as they are.")

    def students(self, widths: Sequence[float]) -> tuple[float, ...]:
        """Return those of a step's widths that learn from the teacher.

        Example:
            >>> Distillation().students([1.0, 0.5, 0.25]), Distillation(teacher=0.25).students([1.0, 0.5, 0.25])
            ((0.5, 0.25), (1.0, 0.5))
        """
        if self.teacher is None:
            return tuple(widths[1:])
        return tuple(width for width in widths if width > self.teacher)

    def loss(self, student: Tensor, teacher: Tensor, hard: Tensor) -> Tensor:
        """Return the loss of a student, or of the same width of several networks at once.

        Args:
            student: Its logits, (batch, classes, ...), or (networks, batch, classes, ...).
            teacher: Logits of the teacher, same shape.
            hard: The student's loss against the targets, a scalar, or (networks,).

        Returns:
            ``(1 - weight) * hard + weight * T^2 * KL(teacher || student)``, the divergence averaged over all positions;
            of the shape of ``hard``. Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015,
            section 2.

        Example:
            >>> logits = torch.tensor([[0.0, 0.0]])
            >>> Distillation(weight=0.75).loss(logits, logits, hard=torch.tensor(4.0))
            tensor(1.)
        """
        classes = hard.ndim + 1
        log_student = functional.log_softmax(student / self.temperature, dim=classes)
        log_teacher = functional.log_softmax(teacher / self.temperature, dim=classes)
        # The sum that functional.kl_div takes, for each network by itself.
        sums = (log_teacher.exp() * (log_teacher - log_student)).flatten(hard.ndim).sum(-1)
        positions = student.numel() // (student.shape[classes] * hard.numel())
        return (1 - self.weight) * hard + self.weight * self.temperature**2 * (sums / positions)


@dataclass(frozen=True)
class SandwichRule:
    """Which widths a step trains, and how much each one's loss counts.

    Attributes:
        num_random_widths: Random widths of a step between the full and the smallest, >= 0.
        reduction: ``"mean"``: the loss weights of a step sum to 1, so that a learning rate suits any number of widths.
            ``"sum"``: to the number of widths, as in the paper.
        full_width_loss_weight: The full width's part of that sum, in (0, 1); None: as much as a width between.
        smallest_width_loss_weight: The smallest width's part, likewise; both together less than 1. The widths between
            divide the rest evenly; in a step without any, the two weights are scaled up to the whole.
        distillation: Lets some widths learn from another one too; None: all learn from the targets alone.
        seed: Seed of the random widths.

    Raises:
        InputError: An attribute is out of range.
    """

    num_random_widths: int = 2
    reduction: Reduction = "mean"
    full_width_loss_weight: float | None = None
    smallest_width_loss_weight: float | None = None
    distillation: Distillation | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_random_widths < 0:
            raise InputError(f"model.num_random_widths={self.num_random_widths} is negative; 0 trains the two ends.")
        if self.reduction not in get_args(Reduction):
            raise InputError(f"model.reduction={self.reduction!r} is unknown; choose 'mean' or 'sum'.")
        full, smallest = self.full_width_loss_weight, self.smallest_width_loss_weight
        for end, weight in (("full", full), ("smallest", smallest)):
            if weight is not None and not 0 < weight < 1:
                raise InputError(
                    f"model.{end}_width_loss_weight={weight} is not between 0 and 1; null treats it as the others."
                )
        if not (full or 0) + (smallest or 0) < 1:
            raise InputError(
                f"model.full_width_loss_weight={full} and model.smallest_width_loss_weight={smallest} leave nothing "
                "for the others; their sum must be below 1."
            )

    def with_distillation(self, distillation: Distillation | None) -> "SandwichRule":
        """Return the rule with another distillation; None: with its own."""
        return self if distillation is None else replace(self, distillation=distillation)

    def draw_widths(self, grid: Sequence[float], *, step: int) -> tuple[float, ...]:
        """Draw the widths of one training step.

        The draw depends on the rule, the grid and the step only, so that all processes of a run draw alike.

        Args:
            grid: The widths to draw from.
            step: Number of the step.

        Returns:
            The largest width, then the random ones descending (all between, when they are no more than
            ``num_random_widths``), then the smallest.

        Example:
            >>> SandwichRule().draw_widths([1, 0.5, 0.25], step=0)
            (1, 0.5, 0.25)
            >>> SandwichRule(num_random_widths=1).draw_widths([1, 0.75, 0.5, 0.25], step=3)
            (1, 0.75, 0.25)
        """
        ordered = sorted(set(grid), reverse=True)
        between = ordered[1:-1]
        if self.num_random_widths < len(between):
            generator = random.Random(f"{self.seed}/{step}")
            between = sorted(generator.sample(between, self.num_random_widths), reverse=True)
        return (*ordered[:1], *between, *ordered[1:][-1:])

    def loss_weights(self, widths: Sequence[float]) -> dict[float, float]:
        """Return the weight of each width's loss in a step.

        Args:
            widths: The widths of the step, each once, descending.

        Example:
            >>> SandwichRule().loss_weights([1, 0.5]), SandwichRule(reduction="sum").loss_weights([1, 0.5])
            ({1: 0.5, 0.5: 0.5}, {1: 1.0, 0.5: 1.0})
            >>> SandwichRule(full_width_loss_weight=0.75).loss_weights([1, 0.5, 0.25])
            {1: 0.75, 0.5: 0.125, 0.25: 0.125}
            >>> ends = SandwichRule(full_width_loss_weight=0.5, smallest_width_loss_weight=0.25)
            >>> ends.loss_weights([1, 0.25]), ends.loss_weights([1])
            ({1: 0.6666666666666666, 0.25: 0.3333333333333333}, {1: 1.0})
        """
        count = len(widths)
        if count == 1:
            return {widths[0]: 1.0}
        total = count if self.reduction == "sum" else 1
        ends = [self.full_width_loss_weight, *(None,) * (count - 2), self.smallest_width_loss_weight]
        taken = sum(weight for weight in ends if weight is not None)
        others = ends.count(None)
        if not others:
            return {width: total * weight / taken for width, weight in zip(widths, ends, strict=True) if weight}
        return {
            width: total * (1 - taken) / others if weight is None else total * weight
            for width, weight in zip(widths, ends, strict=True)
        }


class StepLosses:
    """The losses of one step, width after width: the students' include the distillation loss.

    Args:
        distillation: Which widths learn from which; None: the losses stay as they are.
        widths: The widths of the step, descending; they are computed in this order.
        forward: Computes a width's outputs, for a teacher that is not the first of the widths. Called at most once,
            without gradients.
    """

    def __init__(
        self, distillation: Distillation | None, widths: Sequence[float], forward: Callable[[float], Tensor]
    ) -> None:
        self._distillation = distillation
        self._students = () if distillation is None else distillation.students(widths)
        self._teacher: Tensor | None = None
        if distillation is not None and distillation.teacher is not None and self._students:
            with torch.no_grad():
                self._teacher = forward(distillation.teacher)

    def __call__(
        self, width: float, outputs: Tensor, hard: Tensor, *, rows: slice | Tensor | EllipsisType = ...
    ) -> Tensor:
        """Return the loss of a width, of the shape of ``hard``.

        Args:
            width: The next of the widths.
            outputs: Its logits, (batch, classes, ...), or (networks, batch, classes, ...).
            hard: Its loss against the targets, a scalar, or (networks,).
            rows: Which of the networks these are; all of them compute the first width.
        """
        if self._teacher is not None and self._distillation is not None and width in self._students:
            return self._distillation.loss(outputs, self._teacher[rows], hard)
        if self._teacher is None and self._students:
            self._teacher = outputs.detach()
        return hard


def sandwich_step(
    forward: Callable[..., Tensor],
    inputs: Any,
    targets: Any,
    widths: Sequence[float],
    *,
    rule: SandwichRule = SandwichRule(),
    backward: Callable[[Tensor], Any] = torch.Tensor.backward,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
    loss: Callable[[Any, Any], Tensor] = functional.cross_entropy,
) -> dict[float, Tensor]:
    """Add the gradient of the widths' weighted losses to the parameters' gradients.

    Each width has its own backward, so that the activations of one width at a time are in memory; the gradients are
    synchronised between processes with the last one only. The caller zeroes the gradients before, and clips and
    steps after. Narrow widths add to ``grad`` in place, so that hooks registered on parameters do not see it.

    Args:
        forward: Called as ``forward(inputs, width=...)``; under DDP or Fabric the wrapped model.
        inputs: A batch of inputs.
        targets: Its targets, as the loss takes them.
        widths: The widths of this step, descending; see :meth:`SandwichRule.draw_widths`.
        rule: Weighs the losses, and says which widths learn from which.
        backward: Called with each loss: ``Tensor.backward``, ``fabric.backward`` or ``module.manual_backward``.
        no_sync: Makes a context in which backward does not synchronise gradients between processes.
        loss: Loss of outputs against targets.

    Returns:
        The loss of each width, detached, without its weight.

    Example:
        >>> weight = torch.ones(1, requires_grad=True)
        >>> def forward(x, width):
        ...     return x * weight * width
        >>> sandwich_step(forward, torch.ones(1), torch.zeros(1), [1.0, 0.5], loss=functional.mse_loss)
        {1.0: tensor(1.), 0.5: tensor(0.2500)}
        >>> weight.grad  # (2 * 1 + 2 * 0.25) / 2
        tensor([1.2500])
    """
    weights = rule.loss_weights(widths)
    width_loss = StepLosses(rule.distillation, widths, lambda width: forward(inputs, width=width))
    losses: dict[float, Tensor] = {}
    for width, weight in weights.items():
        last = width == widths[-1]
        # The forward belongs inside too: DDP prepares the synchronisation of a backward in the forward before it.
        with accumulating(), nullcontext() if last else no_sync():
            outputs = forward(inputs, width=width)
            value = width_loss(width, outputs, loss(outputs, targets))
            backward(value if weight == 1 else value * weight)
        losses[width] = value.detach()
    return losses
