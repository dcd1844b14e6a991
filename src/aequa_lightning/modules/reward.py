"""RewardClassifier, the LightningModule of a participant's reward."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from aequa_lightning.backbones import Backbone, NetworkSource
from aequa_lightning.backbones.full_network import Norm, Options, full_network
from aequa_lightning.backbones.loading import LoadsOnlyData
from aequa_lightning.modules.accuracy import log_accuracy
from aequa_lightning.slimmable import SlimmableModel


class RewardClassifier(LoadsOnlyData):
    """A participant's reward: the plain narrow network of one width, without the slimmable one around it.

    Lightning's Trainer tests it, predicts with it (probabilities) and trains it further: cross-entropy, with Adam at
    1e-3 unless ``configure_optimizers`` is overridden. Batches are pairs of inputs and classes.

    Args:
        num_classes: Number of classes.
        input_shape: Shape of one input without the batch.
        width: Its width, in (0, 1].
        layers: The share of each layer, in (0, 1], where they differ; the width is then only a label.
        vocabulary_size: See :class:`~aequa_lightning.SlimmableClassifier`.
        backbone: See :class:`~aequa_lightning.SlimmableClassifier`.
        backbone_options: See :class:`~aequa_lightning.SlimmableClassifier`.
        norm: See :class:`~aequa_lightning.SlimmableClassifier`; a network of one width treats shared and private alike.
        channels_per_group: See :class:`~aequa_lightning.SlimmableClassifier`.
    """

    def __init__(
        self,
        num_classes: int,
        input_shape: Sequence[int],
        *,
        width: float,
        layers: dict[str, float] | None = None,
        vocabulary_size: int | None = None,
        backbone: Backbone,
        backbone_options: Options | None = None,
        norm: Norm = "shared",
        channels_per_group: int = 16,
    ) -> None:
        super().__init__()
        given, backbone = backbone, NetworkSource(backbone).name
        self.save_hyperparameters()
        full, example = full_network(
            num_classes,
            input_shape,
            vocabulary_size=vocabulary_size,
            backbone=given,
            backbone_options=backbone_options,
            norm=norm,
            channels_per_group=channels_per_group,
        )
        # Only the narrow shapes matter here; the values come from the checkpoint.
        slimmable = SlimmableModel(full, (1.0, min(layers.values()) if layers else width), example)
        self.network = slimmable.extract(layers or width, fresh_statistics=True)

    @override
    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits of shape (batch, num_classes)."""
        logits: Tensor = self.network(inputs)
        return logits

    @override
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = functional.cross_entropy(self(inputs), targets)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    @override
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        log_accuracy(self, "validation_accuracy", self(batch[0]), batch[1])

    @override
    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        log_accuracy(self, "test_accuracy", self(batch[0]), batch[1])

    @override
    def predict_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        logits: Tensor = self(batch[0])
        return logits.softmax(-1)

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at 1e-3."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)
