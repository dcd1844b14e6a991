"""Training on one participant's data, with the process's one model and one optimizer in turn for everybody."""

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

from aequa_lightning.engine.local.buffers import UnchangedBuffers, load_buffers
from aequa_lightning.engine.local.corrections import GradientCorrection
from aequa_lightning.engine.local.memory_layout import channels_last
from aequa_lightning.engine.local.optimizers import configured_optimizers, options_of, set_options
from aequa_lightning.engine.local.work import Batch, LocalWork, batches, share_of, take
from aequa_lightning.engine.processes.seeding import derive_seed, seed_global_generators
from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.errors import InputError
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.slimmable import Distillation
from aequa_lightning.slimmable.norm import smallest_batch

OptimizerState = dict[int, dict[str, Any]]


class FlatParameters:
    """All trainable parameters as views of one vector, so that sending and averaging them is one operation.

    Args:
        module: Its parameters are moved into the vector; the module keeps working as before.
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
    """The process's model and optimizer, lent to one participant after another.

    Args:
        fabric: A launched Fabric.
        classifier: The model; its parameters become views of :attr:`parameters`.
        batch_size: Samples of a batch, over all replicas together.
        seed: The run's seed.
        augmentation: Applied to every batch of inputs, from the global generator; None: none.
    """

    def __init__(
        self,
        fabric: Fabric,
        classifier: SlimmableClassifier,
        *,
        batch_size: int,
        seed: int,
        augmentation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.fabric, self.classifier, self.batch_size, self.seed = fabric, classifier, batch_size, seed
        self.augmentation = augmentation
        self.topology = Topology(fabric)
        # Samples that a batch of training must have.
        self.least_samples = smallest_batch(classifier.network.full, classifier.network.example_input)
        if batch_size < self.least_samples:
            raise InputError(
                f"data.batch_size={batch_size}: a batch norm of this network sees one value of each channel of a "
                "sample, and one sample alone cannot be normalised; give 2 or more, or set model.norm=group."
            )
        classifier.to(fabric.device)
        self.parameters = FlatParameters(classifier).vector
        optimizer, self.scheduler = configured_optimizers(classifier)
        self.module: _FabricModule = fabric.setup_module(classifier, move_to_device=False)
        self._buffers = UnchangedBuffers(classifier)
        wrapped = fabric.setup_optimizers(optimizer)
        assert isinstance(wrapped, _FabricOptimizer)
        self.optimizer = wrapped
        self._modes = [(part, part.training) for part in classifier.modules()]
        self._trainable = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        self._forward: Callable[..., Tensor] = self.module
        self._backward: Callable[[Tensor], Any] = partial(fabric.backward, model=self.module)
        self._step: Callable[[], Any] = self.optimizer.step
        self._no_sync: Callable[[], AbstractContextManager[Any]] = partial(fabric.no_backward_sync, self.module)
        self._scaler: GradScaler | None = getattr(fabric.strategy.precision, "scaler", None)
        self._first_scale = self._scaler.state_dict() if self._scaler is not None else {}
        if self.topology.replicas == 1:
            self._no_sync = nullcontext
            if type(fabric.strategy.precision) is Precision:
                # Nothing to convert and nobody to wait for: Fabric's wrappers would only take a tenth of a small step.
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
        correction: GradientCorrection | None = None,
        optimizer_state: OptimizerState | None = None,
    ) -> float:
        """Train a participant; what it reaches is in :attr:`parameters`.

        Args:
            start: Where it starts from, of shape (P,).
            samples: Its inputs and their classes, on the device.
            work: How much to train.
            keys: What this work is; with the seed they decide everything random in it.
            grid: Widths that the steps draw from.
            distillation: Which of them learn from another one too, in the place of the model's own.
            correction: What is added to the gradients before each step.
            optimizer_state: What :meth:`optimizer_state` returned when the participant trained before; None: nothing.

        Returns:
            The mean loss over steps and widths.

        Raises:
            InputError: A buffer has changed.
        """
        inputs, targets = samples
        self.parameters.copy_(start)
        self._load_optimizer_state(optimizer_state or {})
        if self._scaler is not None:
            # What one participant's gradients made of the scale depends on the process, and is in no checkpoint.
            self._scaler.load_state_dict(self._first_scale)
        self.set_training_mode()
        seed = derive_seed(self.seed, *keys)
        seed_global_generators(derive_seed(seed, "replica", self.topology.replica), self.fabric.device)
        total, count = torch.zeros((), device=self.fabric.device), 0
        first_step = derive_seed(seed, "widths")
        own_batches = batches(len(targets), work, self.batch_size, seed=seed, least=self.least_samples)
        for step, batch in enumerate(own_batches):
            part, scale = self._own_part(batch)
            given = take(inputs, part)
            if self.augmentation is not None:
                given = self.augmentation(given)
            for parameter in self._trainable:
                # What zero_grad does, without its report to the profiler.
                parameter.grad = None
            losses = self.classifier.sandwich(
                channels_last(given),
                take(targets, part),
                step=first_step + step,
                grid=grid,
                distillation=distillation,
                scale=scale,
                forward=self._forward,
                backward=self._backward,
                no_sync=self._no_sync,
            )
            if correction is not None:
                self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
                if not self._overflowed():
                    correction(self._trainable)
            self._step()
            for loss in losses.values():
                total.add_(loss, alpha=scale)
            count += len(losses)
        self._buffers.check()
        return float(self.topology.mean_over_replicas(total)) / max(count, 1)

    def _overflowed(self) -> bool:
        """Tell whether the loss scale was too large for this step, which will then be left out."""
        if self._scaler is None:
            return False
        return not all(bool(p.grad.isfinite().all()) for p in self._trainable if p.grad is not None)

    def optimizer_state(self) -> OptimizerState:
        """Return what the optimizer remembers, by the position of the parameter; not copied."""
        state = self.optimizer.optimizer.state
        return {place: state[parameter] for place, parameter in enumerate(self._trainable) if parameter in state}

    def _load_optimizer_state(self, kept: OptimizerState) -> None:
        # The optimizer is the same object for all, so what one participant left in it must go.
        optimizer, device = self.optimizer.optimizer, self.fabric.device
        optimizer.state.clear()
        # Numbers such as a count of steps stay on the CPU, where torch keeps them unless one kernel does a whole step.
        with_numbers = optimizer.defaults.get("fused") or optimizer.defaults.get("capturable")
        for place, values in kept.items():
            optimizer.state[self._trainable[place]] = {
                name: value.to(device) if isinstance(value, Tensor) and (value.ndim or with_numbers) else value
                for name, value in values.items()
            }

    def load_buffers(self, saved: Mapping[str, Tensor]) -> None:
        """Let participants start from the buffers of a checkpoint."""
        load_buffers(self.classifier, saved)
        self._buffers = UnchangedBuffers(self.classifier)

    def set_training_mode(self) -> None:
        """Put all layers into the modes in which the model was given: some may compute as in evaluation."""
        for part, mode in self._modes:
            if part.training is not mode:
                part.training = mode

    @contextmanager
    def with_options(self, options: Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """Train with other options of the optimizer, such as the rates of another round; see :func:`options_of`."""
        optimizer = self.optimizer.optimizer
        now = options_of(optimizer)
        set_options(optimizer, options)
        try:
            yield
        finally:
            set_options(optimizer, now)

    def _own_part(self, batch: Batch) -> tuple[Batch, float]:
        """Return this replica's part of a batch and the factor that makes the mean over replicas the batch's mean."""
        part, scale = share_of(batch, self.topology.replica, self.topology.replicas, least=self.least_samples)
        # A blocking copy would wait for all steps before; this one has read the numbers when it returns.
        return part.to(self.fabric.device, non_blocking=True) if isinstance(part, Tensor) else part, scale
