"""Classification: one class a sample, of logits (samples, classes)."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional
from typing_extensions import override

from aequa_lightning.backbones import Backbone
from aequa_lightning.backbones.full_network import Norm, Options
from aequa_lightning.errors import InputError
from aequa_lightning.modules.logit_adjustment import adjusted, class_offsets
from aequa_lightning.modules.reward import RewardModule
from aequa_lightning.modules.score import SampleScore
from aequa_lightning.modules.score_functions import balanced_accuracy, macro_f1
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.modules.task import Loss, StackedLoss, Task
from aequa_lightning.slimmable.sandwich import Reduction

ClassificationScore = Literal["accuracy", "balanced_accuracy", "macro_f1"]


def hits(logits: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return whether each sample's largest logit is that of its class, bool of shape (samples,).

    Args:
        logits: Shape (samples, classes).
        batch: Inputs and classes, int64 of shape (samples,).
    """
    return logits.argmax(-1) == batch[1]


def classification_score(name: ClassificationScore, num_classes: int) -> SampleScore:
    """Return a score of classes.

    Args:
        name: Its name.
        num_classes: Number of classes.

    Example:
        >>> score = classification_score("balanced_accuracy", 2)
        >>> outputs, targets = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
        >>> score.name, score.measure([(outputs, (None, targets))]).value
        ('balanced accuracy', 0.5)
    """
    if name == "balanced_accuracy":
        marks = partial(_class_marks, count=num_classes, predictions=False)
        return SampleScore(marks, name="balanced accuracy", size=2 * num_classes, of_means=balanced_accuracy)
    if name == "macro_f1":
        marks = partial(_class_marks, count=num_classes, predictions=True)
        return SampleScore(marks, name="macro F1", size=3 * num_classes, of_means=macro_f1)
    return ACCURACY


def _class_marks(logits: Tensor, batch: tuple[Any, Tensor], *, count: int, predictions: bool) -> Tensor:
    """Return which class is found and held, found (if asked for), and held, (samples, 2 or 3 times count)."""
    found, held = (functional.one_hot(classes, count).bool() for classes in (logits.argmax(-1), batch[1]))
    return torch.cat([found & held, found, held] if predictions else [found & held, held], 1)


ACCURACY = SampleScore(hits, name="accuracy", is_share=True)


class Classification(Task):
    """Cross-entropy and accuracy; batches are pairs of inputs and classes, int64 of shape (samples,)."""

    has_classes = True
    target_kind = "classes"
    score = ACCURACY

    @override
    def loss(self, outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean cross-entropy of logits, (samples, classes)."""
        return functional.cross_entropy(outputs, batch[1])

    @override
    def predict(self, outputs: Tensor) -> Tensor:
        """Return probabilities, (samples, classes)."""
        return outputs.softmax(-1)

    @staticmethod
    @override
    def output_shape(num_classes: int, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the network's output for one sample: a logit for each class."""
        return (num_classes,)


class RewardClassifier(Classification, RewardModule):
    """A participant's reward in classification; see :class:`~aequa_lightning.modules.RewardModule`."""


class SlimmableClassifier(Classification, SlimmableModule):
    """A classifier whose narrower prefixes are classifiers too.

    A checkpoint holds all arguments as plain values, and can be read with ``weights_only=True``.

    Args:
        num_classes: Number of classes, >= 2. The command line takes it from the data.
        input_shape: Shape of one input without the batch, such as (1, 28, 28). The command line takes it from the data.
        vocabulary_size: Number of different tokens, where an input is a row of token numbers; None where it is not. The
            command line takes it from the data.
        backbone: A name known to :func:`~aequa_lightning.backbones.build_backbone`, or ``package.module:function``. In
            Python also a function or class that is called with ``num_classes`` and ``input_shape``, or a network, which
            is copied. Of one that no import finds, a checkpoint holds the name only; give it again to load the
            checkpoint.
        backbone_options: Keyword arguments of the backbone.
        widths: The grid that training draws widths from, in (0, 1]; its smallest is the narrowest sub-network.
        num_random_widths: Random widths of a step between the full and the smallest (sandwich rule).
        reduction: Whether a step follows the ``mean`` of the widths' losses or their ``sum``, as in the paper.
        full_width_loss_weight: Share of the full width in a step's loss, in (0, 1); None: the same as each between.
        smallest_width_loss_weight: Share of the smallest, likewise; both together less than 1. The others divide
            the rest.
        distillation: Share of the distillation loss in the loss of narrow widths, in [0, 1]; by it they learn from the
            full width's outputs.
        temperature: Divides the logits of the distillation loss, > 0.
        logit_adjustment: Factor, >= 0, of the logarithms of class shares that are added to the logits in the loss
            against the targets; 0: off, 1: as in the source. The shares are those of a participant's own training data
            and do not leave it. Distillation and evaluation use the logits as they are. Standalone training uses it,
            too.
        norm: Parts of the backbone's batch norms of which a width has its own copy. ``shared``: statistics, which are
            recalibrated for any width that is evaluated; ``private``: weights and biases too, for the widths of the
            grid only (the engine refuses it); ``static``: nothing, they normalise by the batch in evaluation too;
            ``group``: nothing, they are replaced by group norms.
        channels_per_group: Channels of a group where ``norm`` is ``group``, a divisor of every layer's, >= 1; widths
            keep whole groups.
        seed: Seed of the random widths.
        score: By what networks are valued: ``accuracy``; ``balanced_accuracy``, the mean of the classes' own; or
            ``macro_f1``, the mean of their F1.

    Raises:
        InputError: An option is out of range, or a layer cannot follow a width.
    """

    reward_class: ClassVar[type[RewardModule]] = RewardClassifier
    can_distil: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        input_shape: Sequence[int],
        *,
        vocabulary_size: int | None = None,
        backbone: Backbone = "cnn",
        backbone_options: Options | None = None,
        widths: Sequence[float] = (1.0, 0.75, 0.5, 0.25),
        num_random_widths: int = 2,
        reduction: Reduction = "mean",
        full_width_loss_weight: float | None = None,
        smallest_width_loss_weight: float | None = None,
        distillation: float = 0.0,
        temperature: float = 1.0,
        logit_adjustment: float = 0.0,
        norm: Norm = "shared",
        channels_per_group: int = 16,
        seed: int = 0,
        score: ClassificationScore = "accuracy",
    ) -> None:
        if not 0 <= logit_adjustment < math.inf:
            raise InputError(
                f"model.logit_adjustment={logit_adjustment} is no finite number of at least 0; 0 turns it off."
            )
        super().__init__(
            num_classes,
            input_shape,
            vocabulary_size=vocabulary_size,
            backbone=backbone,
            backbone_options=backbone_options,
            widths=widths,
            num_random_widths=num_random_widths,
            reduction=reduction,
            full_width_loss_weight=full_width_loss_weight,
            smallest_width_loss_weight=smallest_width_loss_weight,
            distillation=distillation,
            temperature=temperature,
            norm=norm,
            channels_per_group=channels_per_group,
            seed=seed,
        )
        self.logit_adjustment = logit_adjustment
        if score not in get_args(ClassificationScore):
            known = ", ".join(get_args(ClassificationScore))
            raise InputError(f"model.score={score!r} is unknown; choose one of {known}.")
        self.score = classification_score(score, num_classes)

    @override
    def participant_loss(self, samples: tuple[Tensor, Tensor]) -> Loss:
        """Return the loss that a participant trains by, with its own logit adjustment.

        Args:
            samples: Inputs and classes of all its training samples.
        """
        offsets = self._offsets(samples)
        return self.loss if offsets is None else partial(self._adjusted_loss, offsets)

    @override
    def stacked_loss(self, samples: Sequence[tuple[Tensor, Tensor]]) -> StackedLoss:
        """Return the losses that several participants train by in one step, each with its own logit adjustment.

        Args:
            samples: Inputs and classes of all training samples of each participant.
        """
        known = [offsets for offsets in map(self._offsets, samples) if offsets is not None]
        offsets = torch.stack(known) if known else None
        each = _cross_entropies if type(self).loss is Classification.loss else vmap(self.loss)

        def losses(outputs: Tensor, batch: tuple[Tensor, Tensor], rows: Any) -> Tensor:
            return each(outputs if offsets is None else adjusted(outputs, offsets[rows]), batch)

        return losses

    @override
    def on_train_start(self) -> None:
        if self.logit_adjustment:
            raise InputError(
                f"model.logit_adjustment={self.logit_adjustment} goes by the classes of each participant, and "
                "Lightning's Trainer has none; train with CollaborativeTrainer, or set it to 0."
            )
        super().on_train_start()

    def _adjusted_loss(self, offsets: Tensor, outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return self.loss(adjusted(outputs, offsets), batch)

    def _offsets(self, samples: tuple[Tensor, Tensor]) -> Tensor | None:
        """Return what the loss adds to the logits of each class, (num_classes,); None without logit adjustment."""
        return class_offsets(samples[1], num_classes=self.hparams["num_classes"], strength=self.logit_adjustment)


def _cross_entropies(outputs: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross-entropy of each row: of logits (rows, batch, classes, ...), shape (rows,)."""
    targets = batch[1]
    losses = functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(0, 1), reduction="none")
    return losses.view(len(targets), -1).mean(1)
