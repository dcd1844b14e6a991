"""The server: shared parameters, equal in all processes, and the step that a round's updates make."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.engine.server.aggregators import Aggregator
from aequa_lightning.engine.server.collectives import DistributedUpdates
from aequa_lightning.engine.server.exact_sum import ExactSum
from aequa_lightning.engine.server.masks import WidthMasks
from aequa_lightning.engine.server.robust import RobustAggregator
from aequa_lightning.errors import InputError


class Server:
    """The server's parameters and optimizer, replicated in every process.

    Args:
        parameters: Initial parameters, of shape (P,); changed in place.
        aggregator: Weights and server optimizer.
        masks: Masks of the entries that each width holds.
        topology: Where this process stands.

    Attributes:
        updates: Updates of this round that this process's group hosts, by participant; of shape (P,).
    """

    def __init__(self, parameters: Tensor, aggregator: Aggregator, masks: WidthMasks, topology: Topology) -> None:
        self.parameters, self.aggregator = parameters, aggregator
        self._masks, self._topology = masks, topology
        self._leaf = nn.Parameter(parameters)
        self._optimizer = aggregator.optimizer([self._leaf])
        self.updates: dict[int, Tensor] = {}

    def forget_updates(self) -> None:
        """Release the round's updates."""
        self.updates = {}

    def receive(self, indices: Sequence[int], updates: Tensor) -> None:
        """Store updates of participants that this process's group hosts.

        Args:
            indices: The participants, K of them.
            updates: Shape (K, P), valid in the sense of :func:`~aequa_lightning.engine.server.exact_sum.are_valid`.
        """
        self.updates.update(zip(indices, updates, strict=True))

    def distributed_updates(self, participants: Sequence[int]) -> DistributedUpdates:
        """Return the round's updates of some participants, for operations over all groups.

        Args:
            participants: Their indices, the same in every process.
        """
        size, dtype = len(self.parameters), self.parameters.dtype
        return DistributedUpdates(self.updates, participants, self._topology, size=size, dtype=dtype)

    def combine(
        self,
        weights: Mapping[int, float],
        widths: Sequence[float],
        *,
        noise: Tensor | None = None,
        only_moved: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return the average of the updates of all groups; a collective operation.

        Args:
            weights: Weight of every participant whose update is averaged, by index, ascending.
            widths: Width of every participant of the run.
            noise: Added to the weighted sum, float64 of shape (P,), the same in every process. The sum is not divided
                by the total weight then, because that would reveal who took part.
            only_moved: Whether each entry is averaged over those who moved it, not over all who hold it; all weights
                are equal then.

        Returns:
            The mean update, float64 of shape (P,), and the total weight behind each of its entries, float64 of shape
            (P,), or () if all participants hold all entries.
        """
        coverage = self._moved(weights) if only_moved else self._masks.coverage(weights, widths)
        if isinstance(self.aggregator, RobustAggregator):
            return self.aggregator.combine(self.distributed_updates(list(weights))), coverage
        weighted = ExactSum(self.parameters.numel(), self.parameters.device)
        for index, weight in weights.items():
            if index in self.updates:
                weighted.add(self.updates[index], weight)
        self._topology.sum_over_groups(weighted.total)
        if noise is not None:
            return weighted.total + noise.to(coverage.device), torch.ones_like(coverage)
        return weighted.mean(coverage), coverage

    def _moved(self, weights: Mapping[int, float]) -> Tensor:
        """Return the total weight of those who moved each entry, where all have the same; float64 of shape (P,)."""
        count = torch.zeros(len(self.parameters), dtype=torch.float64, device=self.parameters.device)
        for index in weights:
            if index in self.updates:
                count += self.updates[index] != 0
        self._topology.sum_over_groups(count)
        return count / max(1, len(weights))

    def step(self, mean_update: Tensor, coverage: Tensor) -> None:
        """Take a step of the server's optimizer, with the negative mean update as gradient.

        Args:
            mean_update: float64 of shape (P,).
            coverage: Total weight behind each entry, (P,) or (). Entries with weight 0 keep their value, even if the
                optimizer's momentum would change them.

        Raises:
            FloatingPointError: The step leads to parameters that are not finite.
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
        """Return the state of the server's optimizer."""
        return {"aggregator": type(self.aggregator).__name__, "optimizer": self._optimizer.state_dict()["state"]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a result of :meth:`state_dict`; learning rates and other options stay those of the configuration.

        Raises:
            InputError: The state belongs to another aggregator.
        """
        if state["aggregator"] != type(self.aggregator).__name__:
            raise InputError(
                f"ckpt_path was saved with trainer.aggregator={state['aggregator']}; its state is of no use to "
                f"{type(self.aggregator).__name__}. Continue with {state['aggregator']}, or begin a new run."
            )
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
