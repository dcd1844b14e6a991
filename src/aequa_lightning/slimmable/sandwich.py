"""The sandwich rule: every step trains the full width, the smallest, and some between, and adds up their gradients.

Source: Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019,
sections 3.2 and 3.3.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from aequa_lightning.errors import InputError
from aequa_lightning.slimmable.borrowed_slices import accumulating


def sandwich_widths(grid: Sequence[float], *, sampled: int, seed: int, step: int) -> tuple[float, ...]:
    """Draw the widths of one training step.

    The draw depends on its arguments only, so that all processes of a run draw alike.

    Args:
        grid: The widths to draw from.
        sampled: Widths to draw at random between the largest and the smallest, >= 0; all are taken when they fit.
        seed: Seed of the run.
        step: Number of the step.

    Returns:
        The largest width, then the drawn ones descending, then the smallest.

    Example:
        >>> sandwich_widths([1, 0.5, 0.25], sampled=2, seed=0, step=0)
        (1, 0.5, 0.25)
        >>> sandwich_widths([1, 0.75, 0.5, 0.25], sampled=1, seed=0, step=3)
        (1, 0.75, 0.25)
    """
    if sampled < 0:
        raise InputError(f"sampled: {sampled} widths cannot be drawn; give 0 or more")
    ordered = sorted(set(grid), reverse=True)
    between = ordered[1:-1]
    if sampled < len(between):
        between = sorted(random.Random(f"{seed}/{step}").sample(between, sampled), reverse=True)
    return (*ordered[:1], *between, *ordered[1:][-1:])


def loss_weights(
    count: int,
    *,
    reduction: Literal["mean", "sum"] = "mean",
    full_width_loss_weight: float | None = None,
    smallest_width_loss_weight: float | None = None,
) -> tuple[float, ...]:
    """Return the weight of each width's loss in a step.

    Args:
        count: How many widths the step has, >= 1.
        reduction: ``"mean"``: the weights sum to 1, so that a learning rate serves any number of widths. ``"sum"``: to
            their number, as in the paper.
        full_width_loss_weight: Share of the widest in that, in (0, 1); None: that of a width between.
        smallest_width_loss_weight: Share of the narrowest, likewise; both together less than 1. The others divide
            the rest evenly. A step without others is divided in proportion to the two shares.

    Returns:
        The weights, that of the widest first.

    Raises:
        InputError: When the reduction is unknown, or the shares are out of range.

    Example:
        >>> loss_weights(4), loss_weights(4, reduction="sum")
        ((0.25, 0.25, 0.25, 0.25), (1.0, 1.0, 1.0, 1.0))
        >>> (
        ...     loss_weights(3, full_width_loss_weight=0.75),
        ...     loss_weights(4, full_width_loss_weight=0.5, smallest_width_loss_weight=0.25),
        ... )
        ((0.75, 0.125, 0.125), (0.5, 0.125, 0.125, 0.25))
        >>> (
        ...     loss_weights(2, full_width_loss_weight=0.5, smallest_width_loss_weight=0.25),
        ...     loss_weights(1, full_width_loss_weight=0.75),
        ... )
        ((0.6666666666666666, 0.3333333333333333), (1.0,))
    """
    if reduction not in ("mean", "sum"):
        raise InputError(f"reduction: {reduction!r} is unknown; choose 'mean' or 'sum'")
    given = {"full_width_loss_weight": full_width_loss_weight, "smallest_width_loss_weight": smallest_width_loss_weight}
    for name, share in given.items():
        if share is not None and not 0 < share < 1:
            raise InputError(f"{name}: {share} is not between 0 and 1; None treats it as the others")
    taken = sum(share for share in given.values() if share is not None)
    if not taken < 1:
        raise InputError(
            f"full_width_loss_weight + smallest_width_loss_weight: {taken:g} leaves nothing for the others; "
            "give less than 1"
        )
    if count == 1:
        return (1.0,)
    total = count if reduction == "sum" else 1
    shares = [full_width_loss_weight, *(None,) * (count - 2), smallest_width_loss_weight]
    others = shares.count(None)
    if not others:
        # Two widths, and both were given a share.
        return tuple(total * share / taken for share in shares if share is not None)
    return tuple(total * (1 - taken) / others if share is None else total * share for share in shares)


@dataclass(frozen=True)
class Distillation:
    """In-place distillation: some widths learn from another one's outputs of the same step.

    Attributes:
        temperature: Softens the outputs of teacher and student, > 0.
        hard_weight: Share of the loss against the targets, in [0, 1]; 0 leaves the teacher alone.
        teacher: The width that the wider ones learn from; None: the narrow ones learn from the first of the step.
    """

    temperature: float = 1.0
    hard_weight: float = 0.0
    teacher: float | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"temperature: {self.temperature} is not positive")
        if not 0 <= self.hard_weight <= 1:
            raise InputError(f"hard_weight: {self.hard_weight} is not a share in [0, 1]")

    def students(self, widths: Sequence[float]) -> tuple[float, ...]:
        """Return those of a step's widths that learn from the teacher.

        Example:
            >>> Distillation().students([1.0, 0.5, 0.25]), Distillation(teacher=0.25).students([1.0, 0.5, 0.25])
            ((0.5, 0.25), (1.0, 0.5))
        """
        if self.teacher is None:
            return tuple(widths[1:])
        return tuple(width for width in widths if width > self.teacher)

    def __call__(self, student: Tensor, teacher: Tensor, hard: Tensor) -> Tensor:
        """Return the loss of a width that learns.

        Args:
            student: Its logits, (batch, classes, ...).
            teacher: Logits of the teacher, same shape.
            hard: Its loss against the targets.

        Returns:
            ``hard_weight * hard + (1 - hard_weight) * T^2 * KL(teacher || student)``, the divergence averaged over
            all positions. Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2.
        """
        log_student = functional.log_softmax(student / self.temperature, dim=1)
        log_teacher = functional.log_softmax(teacher / self.temperature, dim=1)
        positions = student.numel() // student.shape[1]
        # Written out, because torch.func.vmap would do kl_div in a loop.
        divergence = (log_teacher.exp() * (log_teacher - log_student)).sum() / positions
        return self.hard_weight * hard + (1 - self.hard_weight) * self.temperature**2 * divergence


def sandwich_step(
    forward: Callable[..., Tensor],
    inputs: Any,
    targets: Tensor,
    widths: Sequence[float],
    *,
    backward: Callable[[Tensor], Any] = torch.Tensor.backward,
    no_sync: Callable[[], AbstractContextManager[Any]] = nullcontext,
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    distillation: Distillation | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    full_width_loss_weight: float | None = None,
    smallest_width_loss_weight: float | None = None,
) -> dict[float, Tensor]:
    """Add the gradient of the widths' mean loss to the parameters' gradients.

    Each width has its own backward, so that the activations of one width at a time are in memory; the gradients are
    synchronised between processes with the last one only. The caller zeroes the gradients before, and clips and
    steps after. What a narrow width adds goes into ``grad`` directly, past hooks that are registered on parameters.

    Args:
        forward: Called as ``forward(inputs, width=...)``; under DDP or Fabric the wrapped model.
        inputs: A batch of inputs.
        targets: Its targets.
        widths: The widths of this step.
        backward: Called with each loss: ``Tensor.backward``, ``fabric.backward`` or ``module.manual_backward``.
        no_sync: Makes a context in which backward does not synchronise gradients between processes.
        loss: Loss of outputs against targets.
        distillation: Lets some widths learn from another one too; None: all learn from the targets alone.
        reduction: See :func:`loss_weights`.
        full_width_loss_weight: See :func:`loss_weights`.
        smallest_width_loss_weight: See :func:`loss_weights`.

    Returns:
        The loss of each width, detached, without its weight.

    Raises:
        InputError: When the reduction is unknown, or the shares are out of range.

    Example:
        >>> weight = torch.ones(1, requires_grad=True)
        >>> def forward(x, width):
        ...     return x * weight * width
        >>> sandwich_step(forward, torch.ones(1), torch.zeros(1), [1.0, 0.5], loss=functional.mse_loss)
        {1.0: tensor(1.), 0.5: tensor(0.2500)}
        >>> weight.grad  # (2 * 1 + 2 * 0.25) / 2
        tensor([1.2500])
    """
    weights = loss_weights(
        len(widths),
        reduction=reduction,
        full_width_loss_weight=full_width_loss_weight,
        smallest_width_loss_weight=smallest_width_loss_weight,
    )
    losses: dict[float, Tensor] = {}
    teacher: Tensor | None = None
    students = () if distillation is None else distillation.students(widths)
    if distillation is not None and distillation.teacher is not None and students:
        with torch.no_grad():
            teacher = forward(inputs, width=distillation.teacher)
    for number, (width, weight) in enumerate(zip(widths, weights, strict=True)):
        last = number == len(widths) - 1
        # The forward belongs inside too: DDP prepares the synchronisation of a backward in the forward before it.
        with accumulating(), nullcontext() if last else no_sync():
            outputs = forward(inputs, width=width)
            value = loss(outputs, targets)
            if distillation is not None and teacher is not None and width in students:
                value = distillation(outputs, teacher, value)
            backward(value if weight == 1 else value * weight)
        if students and teacher is None:
            teacher = outputs.detach()
        losses[width] = value.detach()
    return losses
