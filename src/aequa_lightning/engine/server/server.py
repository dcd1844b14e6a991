"""The server: the parameters that all processes hold alike, and how a round's updates move them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.engine.server.aggregators import Aggregator
from aequa_lightning.engine.server.exact_sum import ExactSum
from aequa_lightning.engine.server.masks import WidthMasks
from aequa_lightning.engine.server.robust import RobustAggregator
from aequa_lightning.errors import InputError


class Server:
    """The server as every process keeps it: the parameters, and the optimizer that moves them once a round.

    Args:
        parameters: The first ones, flat, shape (P,); moved in place.
        aggregator: How updates become a step.
        masks: Which entries a width holds.
        topology: Where this process stands.
    """

    def __init__(self, parameters: Tensor, aggregator: Aggregator, masks: WidthMasks, topology: Topology) -> None:
        self.parameters, self.aggregator = parameters, aggregator
        self._masks, self._topology = masks, topology
        self._leaf = nn.Parameter(parameters)
        self._optimizer = aggregator.optimizer([self._leaf])
        self.updates: dict[int, Tensor] = {}

    def forget_updates(self) -> None:
        """Forget the round's updates."""
        self.updates = {}

    def receive(self, indices: Sequence[int], updates: Tensor) -> None:
        """Take in the updates of participants that this process's group hosts.

        Args:
            indices: The participants, K of them.
            updates: Shape (K, P), acceptable in the sense of
                :func:`~aequa_lightning.engine.server.exact_sum.acceptable`.
        """
        self.updates.update(zip(indices, updates, strict=True))

    def combine(
        self, weights: Mapping[int, float], widths: Sequence[float], *, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the updates that all groups have taken in as one; a collective operation.

        Args:
            weights: Weight of every participant whose update is to count, by index, ascending.
            widths: Width of every participant of the run.
            noise: Added to the weighted sum, float64 of shape (P,), the same in every process. The sum is not divided
                by the weights then: who took part must not show.

        Returns:
            The mean update, float64 of shape (P,), and the total weight behind each of its entries, float64 of shape
            (P,), or () when all hold everything.
        """
        coverage = self._masks.coverage(weights, widths)
        if isinstance(self.aggregator, RobustAggregator):
            size, dtype = len(self.parameters), self.parameters.dtype
            centre = self.aggregator.combine(self.updates, list(weights), self._topology, size=size, dtype=dtype)
            return centre, coverage
        weighted = ExactSum(self.parameters.numel(), self.parameters.device)
        for index, weight in weights.items():
            if index in self.updates:
                weighted.add(self.updates[index], weight)
        self._topology.sum_over_groups(weighted.total)
        if noise is not None:
            return weighted.total + noise.to(coverage.device), torch.ones_like(coverage)
        return weighted.mean(coverage), coverage

    def step(self, mean_update: Tensor, coverage: Tensor) -> None:
        """Move along the mean update of a round, as if it were a direction of descent.

        Args:
            mean_update: float64 of shape (P,).
            coverage: Total weight behind each entry, (P,) or (); where nobody held an entry it stays, whatever the
                optimizer remembers.

        Raises:
            FloatingPointError: It moved to where a number is not finite, from updates that were.
        """
        before = self.parameters.clone()
        self._leaf.grad = -mean_update.to(self.parameters.dtype)
        self._optimizer.step()
        self.parameters.copy_(torch.where(coverage > 0, self.parameters, before))
        if not bool(self.parameters.isfinite().all()):
            raise FloatingPointError(
                f"trainer.aggregator={type(self.aggregator).__name__} moved the shared model to numbers that are not "
                "finite, from updates that were; lower its lr"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what the optimizer remembers."""
        return {"aggregator": type(self.aggregator).__name__, "optimizer": self._optimizer.state_dict()["state"]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned; learning rates and the like are those of the configuration.

        Raises:
            InputError: It is the memory of another optimizer.
        """
        if state["aggregator"] != type(self.aggregator).__name__:
            raise InputError(
                f"ckpt_path was saved with trainer.aggregator={state['aggregator']}; what that remembers is of no use "
                f"to {type(self.aggregator).__name__}. Go on with {state['aggregator']}, or begin a new run."
            )
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
