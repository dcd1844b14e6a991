"""What a module learns: its loss, its score, and what batches and outputs look like."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.func import vmap
from torchmetrics import Metric

from aequa_lightning.errors import InputError
from aequa_lightning.modules.score import SampleScore, Score, WholeScore

Loss = Callable[[Any, Any], Tensor]
"""(outputs, batch) -> a scalar."""

StackedLoss = Callable[[Any, Any, Any], Tensor]
"""(outputs, batch, rows) -> the loss of each of these rows of a stack, (rows,); both have rows in front."""


class Task:
    """Base of modules; a subclass defines ``loss`` and ``score``, and may override the rest.

    ``score`` is a method ``score(outputs, batch)`` that returns a number in [0, 1] for each sample, the larger the
    better; or a metric of torchmetrics; or a :class:`~aequa_lightning.modules.score.Score`.

    Attributes:
        score_name: What tables and figures call the score that a method ``score`` returns.
        score_is_share: Whether that is a share of samples, which is shown in percent.
        has_classes: Whether targets are classes, one a sample, and outputs their logits, (samples, classes). Checks and
            measures of classes need it.
        target_kind: Kind of targets that it takes, as data state it; None: any.
    """

    score_name: str = "score"
    score_is_share: bool = False
    has_classes: bool = False
    target_kind: str | None = None

    # Not defined here: a metric becomes a submodule, which a method of the same name would hide.
    score: Any

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the mean loss of a batch, a scalar.

        Args:
            outputs: What the network returns for the inputs of the batch.
            batch: What the data loader returns.
        """
        raise InputError(f"{type(self).__name__} has no loss; define loss(self, outputs, batch), a scalar.")

    def inputs(self, batch: Any) -> Any:
        """Return what the network is called with; without another definition the first entry of a batch."""
        return batch[0]

    def targets(self, batch: Any) -> Any:
        """Return what a metric is called with besides the outputs; without another definition the second entry."""
        return batch[1]

    def predict(self, outputs: Any) -> Any:
        """Return predictions from outputs, such as probabilities; without another definition the outputs."""
        return outputs

    @staticmethod
    def output_shape(num_classes: int, input_shape: Sequence[int]) -> tuple[int, ...] | None:
        """Return the shape of the network's output for one sample; None: any will do.

        Args:
            num_classes: Number of outputs that the network is built with.
            input_shape: Shape of one input.
        """
        return None

    def participant_loss(self, samples: Any) -> Loss:
        """Return the loss that a participant trains by.

        Args:
            samples: All its training samples, as one batch.
        """
        return self.loss

    def stacked_loss(self, samples: Sequence[Any]) -> StackedLoss:
        """Return the losses that several participants train by in one step.

        Args:
            samples: All training samples of each participant, as one batch each.
        """
        each = vmap(self.loss)
        return lambda outputs, batch, rows: each(outputs, batch)

    @property
    def scorer(self) -> Score:
        """The score, in the one form that the engine uses.

        Raises:
            InputError: There is none, or one that is better where it is smaller.
        """
        found = getattr(self, "score", None)
        if isinstance(found, Score):
            return found
        if isinstance(found, Metric):
            return WholeScore(found, targets=self.targets)
        if callable(found):
            return SampleScore(found, name=self.score_name, is_share=self.score_is_share)
        raise InputError(
            f"{type(self).__name__} has no score; define score(self, outputs, batch), a number in [0, 1] for each "
            "sample, or let self.score be a metric of torchmetrics."
        )
