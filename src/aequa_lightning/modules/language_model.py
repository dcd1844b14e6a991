"""Next-token language modelling: of each token of a text the next one is predicted."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from aequa_lightning.errors import InputError
from aequa_lightning.modules.reward import RewardModule
from aequa_lightning.modules.score import SampleScore
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.modules.task import Task

# Tokens of this number do not count, as in `torch.nn.functional.cross_entropy`.
IGNORED = -100


class LanguageModelling(Task):
    """Cross-entropy and next-token accuracy; batches are pairs of tokens and next tokens, (samples, length) each."""

    target_kind = "positions"

    @property
    def score(self) -> SampleScore:
        """Share of a text's tokens that are predicted, averaged over texts."""
        return SampleScore(next_token_accuracy, name="next-token accuracy", is_share=True)

    @override
    def loss(self, outputs: Tensor, batch: tuple[Any, Tensor]) -> Tensor:
        """Return the mean cross-entropy over tokens of logits, (samples, length, tokens)."""
        return functional.cross_entropy(outputs.flatten(0, 1), batch[1].flatten(), ignore_index=IGNORED)

    @override
    def predict(self, outputs: Tensor) -> Tensor:
        """Return the most probable next tokens, (samples, length)."""
        return outputs.argmax(-1)

    @staticmethod
    @override
    def output_shape(num_classes: int, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the network's output for one sample: a logit for each position and token."""
        return (*input_shape, num_classes)


def next_token_accuracy(outputs: Tensor, batch: tuple[Any, Tensor]) -> Tensor:
    """Return the share of each text's tokens that have the largest logit, (samples,).

    Args:
        outputs: Logits, (samples, length, tokens).
        batch: Tokens and next tokens, (samples, length) each.

    Example:
        >>> import torch
        >>> next_token_accuracy(torch.eye(3)[None], (None, torch.tensor([[0, 2, -100]])))
        tensor([0.5000])
    """
    targets = batch[1]
    counts = targets != IGNORED
    return ((outputs.argmax(-1) == targets) & counts).sum(1) / counts.sum(1).clamp(min=1)


def likelihood(outputs: Tensor, batch: tuple[Any, Tensor]) -> Tensor:
    """Return exp(-loss) of each text, the geometric mean of its tokens' probabilities, (samples,).

    Args:
        outputs: Logits, (samples, length, tokens).
        batch: Tokens and next tokens, (samples, length) each.

    Example:
        >>> import torch
        >>> likelihood(torch.zeros(1, 3, 4), (None, torch.tensor([[0, 2, -100]])))
        tensor([0.2500])
    """
    targets = batch[1]
    losses = functional.cross_entropy(outputs.transpose(1, 2).float(), targets, ignore_index=IGNORED, reduction="none")
    return (-losses.sum(1) / (targets != IGNORED).sum(1).clamp(min=1)).exp()


class RewardLanguageModel(LanguageModelling, RewardModule):
    """A participant's reward in language modelling; see :class:`~aequa_lightning.modules.RewardModule`."""


class SlimmableLanguageModel(LanguageModelling, SlimmableModule):
    """Predicts next tokens.

    Args:
        num_classes: Number of different tokens. The command line takes it from the data.
        input_shape: Length of a text, such as (64,). The command line takes it from the data.
        score: ``next_token_accuracy``, or ``likelihood``: exp(-loss) of each text, averaged over texts.
        **options: Further arguments of :class:`~aequa_lightning.modules.SlimmableModule`.

    Raises:
        InputError: The score is unknown, or as :class:`~aequa_lightning.modules.SlimmableModule` does.
    """

    reward_class: ClassVar[type[RewardModule]] = RewardLanguageModel

    def __init__(
        self,
        num_classes: int,
        input_shape: Sequence[int],
        *,
        score: Literal["next_token_accuracy", "likelihood"] = "next_token_accuracy",
        **options: Any,
    ) -> None:
        if score not in ("next_token_accuracy", "likelihood"):
            raise InputError(f"model.score={score!r} is unknown; choose next_token_accuracy or likelihood.")
        super().__init__(num_classes, input_shape, **options)

    @property
    def score(self) -> SampleScore:
        """The chosen score."""
        if self.hparams["score"] == "likelihood":
            return SampleScore(likelihood, name="exp(-loss)")
        return super().score
