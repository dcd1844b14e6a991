"""Local training of one participant at a time, with one model and one optimizer for each process."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import Precision
from lightning.fabric.wrappers import _FabricModule, _FabricOptimizer
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from aequa_lightning.engine.local.buffers import BufferGuard, load_buffers
from aequa_lightning.engine.local.corrections import Corrector
from aequa_lightning.engine.local.optimizers import configured_optimizers, options_of, set_options
from aequa_lightning.engine.local.work import Batch, LocalWork, batches, channels_last, replica_share, select_rows
from aequa_lightning.engine.processes.seeding import derive_seed, seed_global_generators
from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.errors import InputError
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.slimmable import Distillation
from aequa_lightning.slimmable.norm import smallest_batch

OptimizerState = dict[int, dict[str, Any]]
"""Values that an optimizer keeps for each parameter, such as momentum, by the parameter's position."""


class FlatParameters:
    """All trainable parameters as views of one vector, so that sending and averaging them is one operation.

    Args:
        module: Its parameters become views of the vector; otherwise it does not change.

    Attributes:
        vector: Values of the trainable parameters, of shape (P,).
    """

    def __init__(self, module: torch.nn.Module) -> None:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.vector = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        offset = 0
        for parameter in parameters:
            end = offset + parameter.numel()
            parameter.data = self.vector[offset:end].view(parameter.shape)
            offset = end


class LocalTrainer:
    """Trains participants one after another with the process's model and optimizer.

    Args:
        fabric: A launched Fabric.
        classifier: The model; its parameters become views of :attr:`parameters`.
        batch_size: Samples of a batch, over all replicas together.
        seed: The run's seed.
        augmentation: Applied to every batch of inputs, with random numbers of the global generator; None: none.
    """

    def __init__(
        self,
        fabric: Fabric,
        classifier: SlimmableModule,
        *,
        batch_size: int,
        seed: int,
        augmentation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.fabric, self.classifier, self.batch_size, self.seed = fabric, classifier, batch_size, seed
        self.augmentation = augmentation
        self.topology = Topology(fabric)
        # Smallest batch that the norm layers accept in training: 1 or 2.
        self.min_batch_size = smallest_batch(classifier.network.full, classifier.network.example_input)
        if batch_size < self.min_batch_size:
            raise InputError(
                f"data.batch_size={batch_size}: a batch norm of this network has one value per channel and sample, and "
                "cannot normalise a single sample; give 2 or more, or set model.norm=group."
            )
        classifier.to(fabric.device)
        self.parameters = FlatParameters(classifier).vector
        optimizer, self.scheduler = configured_optimizers(classifier)
        self.module: _FabricModule = fabric.setup_module(classifier, move_to_device=False)
        self._buffers = BufferGuard(classifier)
        wrapped = fabric.setup_optimizers(optimizer)
        assert isinstance(wrapped, _FabricOptimizer)
        self.optimizer = wrapped
        self._modes = [(part, part.training) for part in classifier.modules()]
        self._trainable = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        self._forward: Callable[..., Any] = self.module
        self._backward: Callable[[Tensor], Any] = partial(fabric.backward, model=self.module)
        self._step: Callable[[], Any] = self.optimizer.step
        self._no_sync: Callable[[], AbstractContextManager[Any]] = partial(fabric.no_backward_sync, self.module)
        self._scaler: GradScaler | None = getattr(fabric.strategy.precision, "scaler", None)
        self._first_scale = self._scaler.state_dict() if self._scaler is not None else {}
        if self.topology.replicas == 1:
            self._no_sync = nullcontext
            if type(fabric.strategy.precision) is Precision:
                # Without conversion or replicas Fabric's wrappers have no effect, but take 10 % of a small step.
                self._forward, self._backward, self._step = classifier, Tensor.backward, optimizer.step

    def train(
        self,
        start: Tensor,
        samples: tuple[Tensor, Tensor],
        *,
        work: LocalWork,
        keys: tuple[int | str, ...],
        grid: Sequence[float],
        distillation: Distillation | None = None,
        correction: Corrector | None = None,
        optimizer_state: OptimizerState | None = None,
    ) -> float:
        """Train one participant; its new parameters are in :attr:`parameters`.

        Args:
            start: Initial parameters, of shape (P,).
            samples: Inputs and targets, on the device.
            work: Number of epochs or steps.
            keys: Identify this training; together with the run's seed they determine all random numbers.
            grid: Widths that each step draws from.
            distillation: Teacher widths of this round; None: those of the model.
            correction: Changes the gradients before each step; None: none.
            optimizer_state: Result of :meth:`optimizer_state` after the participant's previous training; None: an
                empty state.

        Returns:
            The mean loss over steps and widths.

        Raises:
            InputError: A buffer has changed.
        """
        inputs, targets = samples
        self.parameters.copy_(start)
        self._load_optimizer_state(optimizer_state or {})
        if self._scaler is not None:
            # Reset the loss scale: otherwise it depends on the participants that this process has trained before.
            self._scaler.load_state_dict(self._first_scale)
        self.set_training_mode()
        seed = derive_seed(self.seed, *keys)
        seed_global_generators(derive_seed(seed, "replica", self.topology.replica), self.fabric.device)
        total, count = torch.zeros((), device=self.fabric.device), 0
        # A number of its own, so that participants draw different widths.
        first_step = derive_seed(seed, "widths")
        loss = self.classifier.participant_loss(samples)
        own_batches = batches(len(targets), work, self.batch_size, seed=seed, min_samples=self.min_batch_size)
        for step, batch in enumerate(own_batches):
            part, scale = self._replica_part(batch)
            batch_inputs = select_rows(inputs, part)
            if self.augmentation is not None:
                batch_inputs = self.augmentation(batch_inputs)
            for parameter in self._trainable:
                # Same as zero_grad(), without its profiler hook.
                parameter.grad = None
            losses = self.classifier.sandwich(
                (channels_last(batch_inputs), select_rows(targets, part)),
                step=first_step + step,
                grid=grid,
                distillation=distillation,
                scale=scale,
                loss=loss,
                forward=self._forward,
                backward=self._backward,
                no_sync=self._no_sync,
            )
            if correction is not None:
                self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
                if not self._overflowed():
                    correction(self._trainable)
            self._step()
            for value in losses.values():
                total.add_(value, alpha=scale)
            count += len(losses)
        self._buffers.check()
        return float(self.topology.mean_over_replicas(total)) / max(count, 1)

    def _overflowed(self) -> bool:
        """Tell whether gradients overflowed at the present loss scale, so that the scaler skips this step."""
        if self._scaler is None:
            return False
        return not all(bool(p.grad.isfinite().all()) for p in self._trainable if p.grad is not None)

    def optimizer_state(self) -> OptimizerState:
        """Return the optimizer's state, such as momentum, by the position of the parameter; not copied."""
        state = self.optimizer.optimizer.state
        return {place: state[parameter] for place, parameter in enumerate(self._trainable) if parameter in state}

    def _load_optimizer_state(self, kept: OptimizerState) -> None:
        """Replace the state of the optimizer, which the previous participant's training has filled."""
        optimizer, device = self.optimizer.optimizer, self.fabric.device
        optimizer.state.clear()
        # torch keeps scalars such as step counts on the CPU, unless the optimizer is fused or capturable.
        scalars_on_device = optimizer.defaults.get("fused") or optimizer.defaults.get("capturable")
        for place, values in kept.items():
            optimizer.state[self._trainable[place]] = {
                name: value.to(device) if isinstance(value, Tensor) and (value.ndim or scalars_on_device) else value
                for name, value in values.items()
            }

    def load_buffers(self, saved: Mapping[str, Tensor]) -> None:
        """Load the buffers of a checkpoint; all participants start from them."""
        load_buffers(self.classifier, saved)
        self._buffers = BufferGuard(self.classifier)

    def set_training_mode(self) -> None:
        """Set each layer to the mode that it had when this trainer was built; some may be in evaluation mode."""
        for part, mode in self._modes:
            if part.training is not mode:
                part.training = mode

    @contextmanager
    def with_options(self, options: Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """Use other optimizer options within the block, such as the learning rates of another round.

        Args:
            options: Result of :func:`~aequa_lightning.engine.local.optimizers.options_of`.
        """
        optimizer = self.optimizer.optimizer
        now = options_of(optimizer)
        set_options(optimizer, options)
        try:
            yield
        finally:
            set_options(optimizer, now)

    def _replica_part(self, batch: Batch) -> tuple[Batch, float]:
        """Return this replica's part of a batch on the device, and the factor of its loss (:func:`replica_share`)."""
        part, scale = replica_share(
            batch, self.topology.replica, self.topology.replicas, min_samples=self.min_batch_size
        )
        # A blocking copy would wait for all earlier steps. A copy from pageable memory has read its source on return.
        return part.to(self.fabric.device, non_blocking=True) if isinstance(part, Tensor) else part, scale
