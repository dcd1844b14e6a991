"""SlimmableClassifier, a LightningModule trained by the sandwich rule, for Trainer and engine."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from aequa_lightning.backbones import Backbone, NetworkSource
from aequa_lightning.backbones.full_network import Norm, Options, full_network
from aequa_lightning.backbones.loading import LoadsOnlyData
from aequa_lightning.errors import InputError
from aequa_lightning.modules.accuracy import log_accuracy
from aequa_lightning.modules.logit_adjustment import adjusted, class_offsets
from aequa_lightning.runtime.process_settings import plain_computation
from aequa_lightning.slimmable import Distillation, SandwichRule, SlimmableModel, sandwich_step
from aequa_lightning.slimmable.norm import smallest_batch
from aequa_lightning.slimmable.sandwich import Reduction


class SlimmableClassifier(LoadsOnlyData):
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

    Raises:
        InputError: An option is out of range, or a layer cannot follow a width.
    """

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
    ) -> None:
        super().__init__()
        # Wrapped, because a network that is assigned directly becomes a submodule.
        self.source = NetworkSource(backbone)
        backbone = self.source.name
        self.save_hyperparameters()
        # The arguments of a subclass are saved too, and theirs may be an object.
        self.save_hyperparameters({"backbone": backbone})
        taught = Distillation(distillation, temperature)
        self.rule = SandwichRule(
            num_random_widths=num_random_widths,
            reduction=reduction,
            full_width_loss_weight=full_width_loss_weight,
            smallest_width_loss_weight=smallest_width_loss_weight,
            distillation=taught if distillation else None,
            seed=seed,
        )
        if not 0 <= logit_adjustment < math.inf:
            raise InputError(
                f"model.logit_adjustment={logit_adjustment} is no finite number of at least 0; 0 turns it off."
            )
        self.logit_adjustment = logit_adjustment
        self.norm = norm
        # float32 on the CPU whatever the caller's defaults: data are float32, and the trainer moves the model.
        with plain_computation():
            full, example = full_network(
                num_classes,
                input_shape,
                vocabulary_size=vocabulary_size,
                backbone=self.source.given,
                backbone_options=backbone_options,
                norm=norm,
                channels_per_group=channels_per_group,
            )
            self.network = SlimmableModel(full, widths, example, affine="private" if norm == "private" else "shared")
        # Samples that a batch of training must have.
        self._least_samples = 1
        # One backward per width needs the memory of one width only; automatic optimisation would hold all graphs.
        self.automatic_optimization = False
        # Run folder of the fit of CollaborativeTrainer that has trained this object in this process; None: no one has.
        self.trained_in: Path | None = None

    @override
    def forward(self, inputs: Tensor, width: float = 1.0) -> Tensor:
        """Return logits of shape (batch, num_classes) at a width in [smallest width, 1]."""
        logits: Tensor = self.network(inputs, width)
        return logits

    @override
    def compile(self, *args: Any, **options: Any) -> None:
        """Let the widths of the grid train compiled; see :meth:`SlimmableModel.compile`. The arguments are its."""
        self.network.compile(*args, **options)

    def sandwich(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        step: int,
        grid: Sequence[float] | None = None,
        distillation: Distillation | None = None,
        scale: float = 1.0,
        offsets: Tensor | None = None,
        forward: Callable[..., Tensor],
        backward: Callable[[Tensor], None],
        no_sync: Callable[[], AbstractContextManager[Any]],
    ) -> dict[float, Tensor]:
        """Accumulate the gradients of one sandwich step (Yu and Huang 2019); zeroing and stepping are the caller's.

        Args:
            inputs: Shape (batch, *input_shape).
            targets: Classes, int64 of shape (batch,).
            step: Number of the step; with the seed it decides the random widths.
            grid: Widths to draw from instead of the model's own.
            distillation: Replaces the model's own; None: the model's own.
            scale: Factor of every loss, for replicas with unequal shares of a batch.
            offsets: Result of :meth:`class_offsets` for the participant's training data; None: none.
            forward: Called as ``forward(inputs, width=...)``; the wrapped module when there is one.
            backward: Called once per width.
            no_sync: Context that keeps gradients local; around all widths but the last.

        Returns:
            The detached loss of each width.
        """
        rule = self.rule.with_distillation(distillation)
        return sandwich_step(
            forward,
            inputs,
            targets,
            rule.draw_widths(grid or self.network.widths, step=step),
            rule=rule,
            backward=backward if scale == 1 else lambda loss: backward(loss * scale),
            no_sync=no_sync,
            loss=lambda logits, classes: functional.cross_entropy(adjusted(logits, offsets), classes),
        )

    def class_offsets(self, targets: Tensor) -> Tensor | None:
        """Return what the loss adds to the logits of each class, (num_classes,); None without logit adjustment.

        Args:
            targets: Classes of all training data of a participant, int64.
        """
        return class_offsets(targets, num_classes=self.hparams["num_classes"], strength=self.logit_adjustment)

    @override
    def on_train_start(self) -> None:
        if self.logit_adjustment:
            raise InputError(
                f"model.logit_adjustment={self.logit_adjustment} goes by the classes of each participant, and "
                "Lightning's Trainer has none; train with CollaborativeTrainer, or set it to 0."
            )
        self._least_samples = smallest_batch(self.network.full, self.network.example_input)

    @override
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        if len(batch[1]) < self._least_samples:
            # Batch norms cannot normalise it; under DDP the last batch has the same size in all processes.
            return
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.zero_grad()
        losses = self.sandwich(
            *batch,
            step=self.global_step,
            forward=self.__call__,
            backward=self.manual_backward,
            no_sync=getattr(self.trainer.strategy, "block_backward_sync", nullcontext),
        )
        optimizer.step()
        self.log("train/loss", losses[1.0], prog_bar=True)

    @override
    def on_train_epoch_end(self) -> None:
        schedulers = self.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if scheduler is not None:
                scheduler.step()

    @override
    def on_validation_start(self) -> None:
        # After training, the statistics of each width are out of date. Labels are not used.
        if self.network.has_statistics:
            loader = self.trainer.val_dataloaders
            assert loader is not None
            batches = (batch[0].to(self.device) for batch in loader)
            self.network.recalibrate(batches, self.network.widths)
            for statistic in self.network.buffers():
                if statistic.is_floating_point():
                    statistic.copy_(self.trainer.strategy.reduce(statistic, reduce_op="mean"))

    @override
    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("validation", batch)

    @override
    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate("test", batch)

    @override
    def predict_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        logits: Tensor = self(batch[0])
        return logits.softmax(-1)

    @override
    def configure_optimizers(self) -> Any:
        """Adam at 1e-3; ``--optimizer`` and ``--lr_scheduler`` on the command line replace it."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def reward_hparams(self, width: float, layers: dict[str, float] | None) -> dict[str, Any]:
        """Return the arguments of :class:`~.reward.RewardClassifier` for a reward of one width, as plain values.

        Args:
            width: The width.
            layers: The share of each layer, where they differ; None: the width for all.
        """
        kept = ("num_classes", "vocabulary_size", "backbone", "backbone_options", "norm", "channels_per_group")
        return {"width": width, "layers": layers, "input_shape": list(self.hparams["input_shape"])} | {
            key: self.hparams[key] for key in kept
        }

    def _evaluate(self, stage: str, batch: tuple[Tensor, Tensor]) -> None:
        inputs, targets = batch
        for width in self.network.widths:
            log_accuracy(self, f"{stage}_accuracy/{width:g}", self(inputs, width=width), targets)
