"""SlimmableModule, the LightningModule of any task whose network trains at several widths, for Trainer and engine."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from aequa_lightning.backbones import Backbone, NetworkSource
from aequa_lightning.backbones.full_network import Norm, Options, full_network
from aequa_lightning.backbones.loading import LoadsOnlyData
from aequa_lightning.errors import InputError
from aequa_lightning.modules.epoch_scores import EpochScores
from aequa_lightning.modules.reward import RewardModule
from aequa_lightning.modules.task import Loss, Task
from aequa_lightning.runtime.process_settings import plain_computation
from aequa_lightning.slimmable import Distillation, SandwichRule, SlimmableModel, sandwich_step
from aequa_lightning.slimmable.norm import smallest_batch
from aequa_lightning.slimmable.sandwich import Reduction


class SlimmableModule(Task, LoadsOnlyData):
    """A network whose narrower prefixes are networks too, trained by the sandwich rule.

    A subclass says what is learned: ``loss(outputs, batch)``, a scalar, and ``score``, by which networks are valued;
    see :class:`~aequa_lightning.modules.task.Task`.

    A checkpoint holds all arguments as plain values, and can be read with ``weights_only=True``.

    Args:
        num_classes: Number of outputs of the network, >= 1: classes, labels, tokens or numbers. The command line takes
            it from the data.
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
            full width's outputs, which must be logits of classes in dimension 1.
        temperature: Divides the logits of the distillation loss, > 0.
        norm: Parts of the backbone's batch norms of which a width has its own copy. ``shared``: statistics, which are
            recalibrated for any width that is evaluated; ``private``: weights and biases too, for the widths of the
            grid only (the engine refuses it); ``static``: nothing, they normalise by the batch in evaluation too;
            ``group``: nothing, they are replaced by group norms.
        channels_per_group: Channels of a group where ``norm`` is ``group``, a divisor of every layer's, >= 1; widths
            keep whole groups.
        seed: Seed of the random widths.

    Attributes:
        network: The network at any width.
        rule: Which widths a step trains, and how much each one's loss counts.
        can_distil: Whether outputs are logits of classes in dimension 1, so that widths can learn from each other's.
        reward_class: The plain module of a reward, which is built from :meth:`reward_hparams`.

    Raises:
        InputError: An option is out of range, or a layer cannot follow a width.

    Example:
        >>> class Denoiser(SlimmableModule):
        ...     def loss(self, outputs, batch):
        ...         return (outputs - batch[1]).square().mean()
        ...
        ...     def score(self, outputs, batch):
        ...         return (-(outputs - batch[1]).square().mean(1)).exp()
        >>> denoiser = Denoiser(3, (4,), backbone="mlp")
        >>> denoiser(torch.zeros(2, 4), width=0.5).shape
        torch.Size([2, 3])
    """

    reward_class: ClassVar[type[RewardModule]] = RewardModule
    can_distil: ClassVar[bool] = False

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
        norm: Norm = "shared",
        channels_per_group: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # Wrapped, because a network that is assigned directly becomes a submodule.
        self.source = NetworkSource(backbone)
        # The arguments of a subclass are saved too, and its backbone may be an object.
        self.save_hyperparameters(ignore="backbone")
        self.save_hyperparameters({"backbone": self.source.name})
        if distillation and not self.can_distil:
            raise InputError(
                f"model.distillation={distillation}: outputs of {type(self).__name__} are no logits of classes in "
                "dimension 1; set it to 0."
            )
        taught = Distillation(distillation, temperature)
        rule = SandwichRule(
            num_random_widths=num_random_widths,
            reduction=reduction,
            full_width_loss_weight=full_width_loss_weight,
            smallest_width_loss_weight=smallest_width_loss_weight,
            distillation=taught if distillation else None,
            seed=seed,
        )
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
                output_shape=self.output_shape(num_classes, input_shape),
            )
            network = SlimmableModel(full, widths, example, affine="private" if norm == "private" else "shared")
        self.hold(network, rule, norm=norm)

    def hold(self, network: SlimmableModel, rule: SandwichRule, *, norm: Norm = "shared") -> None:
        """Take the network; a subclass that makes one of its own calls this instead of this class's construction.

        Args:
            network: The network at any width.
            rule: Which widths a step trains, and how much each one's loss counts.
            norm: How batch norms are treated.
        """
        self.network, self.rule, self.norm = network, rule, norm
        # Samples that a batch of training must have.
        self._least_samples = 1
        self._scores = EpochScores(self)
        # One backward per width needs the memory of one width only; automatic optimisation would hold all graphs.
        self.automatic_optimization = False
        # Run folder of the fit of CollaborativeTrainer that has trained this object in this process; None: no one has.
        self.trained_in: Path | None = None

    @override
    def forward(self, inputs: Any, width: float = 1.0) -> Any:
        """Return the network's outputs at a width in [smallest width, 1]."""
        return self.network(inputs, width)

    @override
    def compile(self, *args: Any, **options: Any) -> None:
        """Let the widths of the grid train compiled; see :meth:`SlimmableModel.compile`. The arguments are its."""
        self.network.compile(*args, **options)

    def sandwich(
        self,
        batch: Any,
        *,
        step: int,
        grid: Sequence[float] | None = None,
        distillation: Distillation | None = None,
        scale: float = 1.0,
        loss: Loss | None = None,
        forward: Callable[..., Any],
        backward: Callable[[Tensor], None],
        no_sync: Callable[[], AbstractContextManager[Any]],
    ) -> dict[float, Tensor]:
        """Accumulate the gradients of one sandwich step (Yu and Huang 2019); zeroing and stepping are the caller's.

        Args:
            batch: What :meth:`inputs` and :meth:`loss` understand: inputs and targets.
            step: Number of the step; with the seed it decides the random widths.
            grid: Widths to draw from instead of the model's own.
            distillation: Replaces the model's own; None: the model's own.
            scale: Factor of every loss, for replicas with unequal shares of a batch.
            loss: Result of :meth:`participant_loss` for the participant's training data; None: :meth:`loss`.
            forward: Called as ``forward(inputs, width=...)``; the wrapped module when there is one.
            backward: Called once per width.
            no_sync: Context that keeps gradients local; around all widths but the last.

        Returns:
            The detached loss of each width.
        """
        rule = self.rule.with_distillation(distillation)
        return sandwich_step(
            forward,
            self.inputs(batch),
            batch,
            rule.draw_widths(grid or self.network.widths, step=step),
            rule=rule,
            backward=backward if scale == 1 else lambda value: backward(value * scale),
            no_sync=no_sync,
            loss=self.loss if loss is None else loss,
        )

    @property
    def task_settings(self) -> list[tuple[str, Any]]:
        """Arguments of a subclass, which may change its loss: part of the key of stored results."""
        shared = inspect.signature(SlimmableModule.__init__).parameters
        return sorted((key, value) for key, value in self.hparams.items() if key not in shared and key[0] != "_")

    @override
    def on_train_start(self) -> None:
        self._least_samples = smallest_batch(self.network.full, self.network.example_input)

    @override
    def training_step(self, batch: Any, batch_idx: int) -> None:
        if len(self.inputs(batch)) < self._least_samples:
            # Batch norms cannot normalise it; under DDP the last batch has the same size in all processes.
            return
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.zero_grad()
        losses = self.sandwich(
            batch,
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
            batches = (self.inputs(batch).to(self.device) for batch in loader)
            self.network.recalibrate(batches, self.network.widths)
            for statistic in self.network.buffers():
                if statistic.is_floating_point():
                    statistic.copy_(self.trainer.strategy.reduce(statistic, reduce_op="mean"))

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("validation", batch)

    @override
    def on_validation_epoch_end(self) -> None:
        self._scores.log(self)

    @override
    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("test", batch)

    @override
    def on_test_epoch_end(self) -> None:
        self._scores.log(self)

    @override
    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.predict(self(self.inputs(batch)))

    @override
    def configure_optimizers(self) -> Any:
        """Adam at 1e-3; ``--optimizer`` and ``--lr_scheduler`` on the command line replace it."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)

    def reward_hparams(self, width: float, layers: dict[str, float] | None) -> dict[str, Any]:
        """Return the arguments of :attr:`reward_class` for a reward of one width, as plain values.

        Args:
            width: The width.
            layers: The share of each layer, where they differ; None: the width for all.
        """
        kept = ("num_classes", "vocabulary_size", "backbone", "backbone_options", "norm", "channels_per_group")
        return {"width": width, "layers": layers, "input_shape": list(self.hparams["input_shape"])} | {
            key: self.hparams[key] for key in kept
        }

    def _evaluate(self, stage: str, batch: Any) -> None:
        for width in self.network.widths:
            outputs = self(self.inputs(batch), width=width)
            self._scores.update(f"{stage}_{self.scorer.key}/{width:g}", outputs, batch)
