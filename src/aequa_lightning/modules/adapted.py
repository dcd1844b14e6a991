"""An existing LightningModule made slimmable: its own training step runs at every width of the sandwich."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric
from typing_extensions import override

from aequa_lightning.backbones import NetworkSource
from aequa_lightning.errors import InputError
from aequa_lightning.modules.score import Score
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.modules.task import Loss
from aequa_lightning.slimmable import Distillation, SandwichRule, SlimmableModel, sandwich_step

ScoreOf = Callable[[Any, Any], Tensor] | Metric | Score


def slimmable(
    module: LightningModule,
    *,
    network: str,
    example_input: Tensor,
    score: ScoreOf,
    widths: Sequence[float] = (1.0, 0.75, 0.5, 0.25),
    num_random_widths: int = 2,
    seed: int = 0,
) -> "AdaptedModule":
    """Make a LightningModule slimmable: what it trains, participants of all widths train.

    Its ``training_step`` and ``configure_optimizers`` are used as they are. What it logs in its training step is not
    kept, and its validation and test steps are not used: the score takes their place.

    Args:
        module: The module; its network is replaced by one of every width, and must not be used elsewhere.
        network: Name of the attribute that holds its network, such as ``backbone``.
        example_input: A batch (one sample is enough) of inputs of the expected size.
        score: ``score(outputs, batch)``, a number in [0, 1] for each sample, the larger the better; a metric of
            torchmetrics; or a :class:`~aequa_lightning.modules.score.Score`.
        widths: The grid that training draws widths from, in (0, 1].
        num_random_widths: Random widths of a step between the full and the smallest (sandwich rule).
        seed: Seed of the random widths.

    Returns:
        The slimmable module, for `CollaborativeTrainer` and for Lightning's `Trainer`.

    Raises:
        InputError: The module optimises by hand or with several optimizers, has trainable parameters outside of its
            network, no such network, or no training step.
    """
    _check(module, network)
    return AdaptedModule(
        module,
        network,
        example_input=example_input,
        score=score,
        widths=widths,
        rule=SandwichRule(num_random_widths=num_random_widths, seed=seed),
    )


class AdaptedModule(SlimmableModule):
    """The result of :func:`slimmable`.

    Args:
        module: The module that is adapted.
        name: Name of the attribute that holds its network.
        example_input: A batch of inputs.
        score: The score.
        widths: The grid.
        rule: The sandwich rule.
    """

    def __init__(
        self,
        module: LightningModule,
        name: str,
        *,
        example_input: Tensor,
        score: ScoreOf,
        widths: Sequence[float],
        rule: SandwichRule,
    ) -> None:
        # The base would build a network by a backbone's name.
        LightningModule.__init__(self)
        full = getattr(module, name)
        self.source = NetworkSource(full)
        self.save_hyperparameters(
            {
                "num_classes": None,
                "input_shape": list(example_input.shape[1:]),
                "vocabulary_size": None,
                "backbone": self.source.name,
                "backbone_options": None,
                "norm": "shared",
                "channels_per_group": 16,
            }
        )
        self.score = score
        self.hold(SlimmableModel(full, widths, example_input), rule)
        # No submodule: the parameters of its network are this module's own already.
        self.__dict__["adapted"] = module
        self.__dict__["_at_width"] = _AtPresentWidth(full)
        setattr(module, name, self.__dict__["_at_width"])
        # A training step outside of Lightning's Trainer has nothing to log to.
        for log in ("log", "log_dict"):
            module.__dict__[log] = _ignore

    @override
    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """Return the loss that the training step has computed."""
        loss: Tensor = outputs
        return loss

    @override
    def forward(self, inputs: Any, width: float = 1.0, *, trains: bool = False) -> Any:
        """Return the network's outputs at a width; for training, the loss of the training step for a batch."""
        if not trains:
            return self.network(inputs, width)
        with self.__dict__["_at_width"].using(self.network, width):
            found = self.__dict__["adapted"].training_step(inputs, 0)
        loss = found.get("loss") if isinstance(found, dict) else found
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise InputError(
                f"{type(self.__dict__['adapted']).__name__}.training_step returns {type(found).__name__}; return the "
                "loss, or a dict with it under 'loss'."
            )
        return loss.reshape(())

    @override
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
        """Accumulate the gradients of one sandwich step; see :meth:`SlimmableModule.sandwich`.

        A training step shows its loss and no outputs, so that widths cannot learn from one another.
        """
        return sandwich_step(
            lambda whole, width: forward(whole, width=width, trains=True),
            batch,
            batch,
            self.rule.draw_widths(grid or self.network.widths, step=step),
            rule=self.rule,
            backward=backward if scale == 1 else lambda value: backward(value * scale),
            no_sync=no_sync,
            loss=self.loss,
        )

    @override
    def configure_optimizers(self) -> Any:
        """Return what the adapted module returns."""
        return self.__dict__["adapted"].configure_optimizers()


class _AtPresentWidth(nn.Module):
    """Stands in the place of a module's network, and computes at the width of the training step that calls it.

    Args:
        full: The full network, whose parameters the module's optimizer is given.
    """

    def __init__(self, full: nn.Module) -> None:
        super().__init__()
        self.full = full
        self._used: tuple[SlimmableModel, float] | None = None

    def forward(self, inputs: Any) -> Any:
        """Return the outputs at the present width; outside of a step at full width."""
        if self._used is None:
            return self.full(inputs)
        network, width = self._used
        return network(inputs, width)

    @contextmanager
    def using(self, network: SlimmableModel, width: float) -> Iterator[None]:
        """Compute at a width within the block."""
        # Not registered: it holds the full network, which is a part of this module already.
        self.__dict__["_used"] = (network, width)
        try:
            yield
        finally:
            self.__dict__["_used"] = None


def _ignore(*arguments: Any, **options: Any) -> None:
    """Take the place of a log."""


def _check(module: LightningModule, network: str) -> None:
    """Check that a module can be adapted.

    Raises:
        InputError: It cannot.
    """
    name = type(module).__name__
    if not isinstance(module, LightningModule):
        raise InputError(f"slimmable: {name} is no LightningModule; SlimmableClassifier takes a network of yours")
    if isinstance(module, SlimmableModule):
        raise InputError(f"slimmable: {name} is slimmable already; use it as it is")
    if not module.automatic_optimization:
        raise InputError(
            f"slimmable: {name} optimises by hand (automatic_optimization = False), so that its training step is not "
            "one loss; derive from SlimmableModule instead"
        )
    found = getattr(module, network, None)
    if not isinstance(found, nn.Module):
        names = ", ".join(name for name, _ in module.named_children()) or "none"
        raise InputError(f"slimmable: {name} has no network called {network!r}; its modules are {names}")
    if type(module).training_step is LightningModule.training_step:
        raise InputError(f"slimmable: {name} has no training_step; derive from SlimmableModule and define loss instead")
    own = {id(parameter) for parameter in found.parameters()}
    others = [key for key, one in module.named_parameters() if one.requires_grad and id(one) not in own]
    if others:
        raise InputError(
            f"slimmable: {name} trains {others[0]} outside of {network!r}, which no width would cut; move it into the "
            "network"
        )
    configured = module.configure_optimizers()
    several = configured[0] if isinstance(configured, tuple) else configured
    if isinstance(several, list | tuple) and len(several) > 1:
        raise InputError(
            f"slimmable: {name} has {len(several)} optimizers, and participants train with one; derive from "
            "SlimmableModule instead"
        )
    if "dataloader_iter" in inspect.signature(module.training_step).parameters:
        raise InputError(f"slimmable: {name}.training_step draws batches itself; take (batch, batch_idx)")
