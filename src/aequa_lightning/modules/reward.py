"""RewardModule, the LightningModule of a participant's reward."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from aequa_lightning.backbones import Backbone, NetworkSource
from aequa_lightning.backbones.full_network import Norm, Options, full_network
from aequa_lightning.backbones.loading import LoadsOnlyData
from aequa_lightning.modules.epoch_scores import EpochScores
from aequa_lightning.modules.task import Task
from aequa_lightning.slimmable import SlimmableModel


class RewardModule(Task, LoadsOnlyData):
    """A participant's reward: the plain narrow network of one width, without the slimmable one around it.

    Lightning's Trainer predicts with it, and where it has a loss and a score, as all ready tasks have, tests it and
    trains it further, with Adam at 1e-3 unless ``configure_optimizers`` is overridden. Batches are those of training.

    Args:
        num_classes: Number of outputs: classes, labels, tokens or numbers.
        input_shape: Shape of one input without the batch.
        width: Its width, in (0, 1].
        layers: The share of each layer, in (0, 1], where they differ; the width is then only a label.
        vocabulary_size: See :class:`~aequa_lightning.modules.SlimmableModule`.
        backbone: See :class:`~aequa_lightning.modules.SlimmableModule`.
        backbone_options: See :class:`~aequa_lightning.modules.SlimmableModule`.
        norm: See :class:`~aequa_lightning.modules.SlimmableModule`; a network of one width treats shared and private
            alike.
        channels_per_group: See :class:`~aequa_lightning.modules.SlimmableModule`.
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
            output_shape=self.output_shape(num_classes, input_shape),
        )
        # Only the narrow shapes matter here; the values come from the checkpoint.
        slimmable = SlimmableModel(full, (1.0, min(layers.values()) if layers else width), example)
        self.network = slimmable.extract(layers or width, fresh_statistics=True)

        self._scores = EpochScores(self)

    @override
    def forward(self, inputs: Any) -> Any:
        """Return the network's outputs."""
        return self.network(inputs)

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(self(self.inputs(batch)), batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._scores.update(f"validation_{self.scorer.key}", self(self.inputs(batch)), batch)

    @override
    def on_validation_epoch_end(self) -> None:
        self._scores.log(self)

    @override
    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._scores.update(f"test_{self.scorer.key}", self(self.inputs(batch)), batch)

    @override
    def on_test_epoch_end(self) -> None:
        self._scores.log(self)

    @override
    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.predict(self(self.inputs(batch)))

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam at 1e-3."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)
