"""What a round tells of its players: gathered from all processes when a measure asks for it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aequa_lightning.callbacks.assessment.screening import GateResult
from aequa_lightning.callbacks.assessment.valuation import (
    coalition_utility,
    loss_divergences,
    own_accuracies,
    validation_gradient,
)
from aequa_lightning.contributions import utilities
from aequa_lightning.contributions.losses import loss_likeness
from aequa_lightning.contributions.measure import Measure, Need, Sampling
from aequa_lightning.contributions.sampling import CachedUtility
from aequa_lightning.engine.callback import RoundResult
from aequa_lightning.engine.processes.seeding import derive_seed
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.collectives import DistributedUpdates
from aequa_lightning.engine.server.exact_sum import ExactSum
from aequa_lightning.errors import InputError

# Evaluations per player where values are sampled and no budget is given.
DEFAULT_BUDGET = 75
# What is computed from the server's parameters before the round.
NEED_START: set[Need] = {"game", "own_accuracies", "clipped_accuracies", "likeness"}


@dataclass(frozen=True)
class RoundStart:
    """What is known of the server's model before a round; None where no measure needs it.

    Attributes:
        parameters: Shape (P,).
        gradient: Gradient of the validation loss, float64 of shape (P,).
    """

    parameters: Tensor | None = None
    gradient: Tensor | None = None

    @classmethod
    def of(cls, run: Run, needs: Collection[Need]) -> "RoundStart":
        """Take what measures with these needs will ask for; a collective operation."""
        return cls(
            gradient=validation_gradient(run) if "gradient_products" in needs else None,
            parameters=run.parameters.clone() if NEED_START & set(needs) else None,
        )


class RoundEvidence:
    """What measures need of a round, by the names of :mod:`~aequa_lightning.contributions.measure`.

    Each is gathered once, when it is first asked for. Asking is a collective operation: all processes ask for the same
    in the same order, and are answered the same.

    Args:
        run: The run, at the end of a round.
        result: The round.
        screened: Who is valued, at least one.
        start: What was taken before the round.
        earlier: Each measure before the round, by name, (N,); NaN for whoever has no value yet.
        gram: Inner products of the valued updates, (K, K); None: nobody is valued together with others.
        utility: What a coalition's model is worth; see :func:`utility_of`.
        budget: Evaluations where values are sampled; None: ``DEFAULT_BUDGET`` for each player.
        update_length: Length that the mechanism brings updates to, > 0.
        clip: Magnitude that entries are cut to for ``clipped_accuracies``, > 0; None: they are not.
    """

    def __init__(
        self,
        run: Run,
        result: RoundResult,
        screened: GateResult,
        *,
        start: RoundStart,
        earlier: Mapping[str, Tensor],
        gram: Tensor | None,
        utility: str | None,
        budget: int | None,
        update_length: float,
        clip: float | None,
    ) -> None:
        self._run, self._result, self._screened = run, result, screened
        self._start, self._earlier, self._gram = start, earlier, gram
        self._utility, self._budget, self._clip = utility, budget, clip
        self.update_length = update_length
        # Those that stayed out of the average have no weight in what they are valued as one with.
        weights = [result.weights.get(index, 0.0) for index in screened.participants]
        self._mixing, self.weights = screened.merge(torch.tensor(weights, dtype=torch.float64))
        self.players = len(self.weights)

    def needed_by(self, measure: Measure) -> list[Any]:
        """Return what a measure needs, in its order."""
        return [self._before(measure.name) if need == "earlier" else getattr(self, need) for need in measure.needs]

    @cached_property
    def squared_lengths(self) -> Tensor:
        """Squared length of each player's update, (G,)."""
        gram = self._gram
        if gram is None:
            gram = self._products.squares[self._screened.participants].diag()
        return (self._mixing @ gram @ self._mixing.T).diagonal()

    def comparison(self, weights: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
        """Compare each player's update with a weighted mean; see :class:`~aequa_lightning.contributions.Comparison`.

        Each entry is averaged over those who hold it.
        """
        run, updates, participants = self._run, self._result.updates, self._screened.participants
        total = ExactSum(run.parameters.numel(), run.topology.device)
        for index, factor in zip(participants, (self._mixing.T @ (weights * scales)).tolist(), strict=True):
            if index in updates:
                total.add(updates[index], factor)
        run.topology.sum_over_groups(total.total)
        shares = dict(zip(participants, (self._mixing.T @ weights).tolist(), strict=True))
        covered = run.masks.coverage(shares, run.widths)
        mean = torch.where(covered != 0, total.total / covered, 0.0)
        products = update_products(run, updates, {"mean": mean})
        return self._of_players(products.along["mean"]), self._of_players(products.held["mean"])

    @cached_property
    def gradient_products(self) -> Tensor:
        """Inner product of each player's update with the gradient of the validation loss, (G,)."""
        return self._of_players(self._products.along["gradient"])

    @cached_property
    def class_rows(self) -> Tensor:
        """Each player's update of the last layer, a row for each class, (G, K, F)."""
        run, result = self._run, self._result
        rows = self._head.to(run.topology.device)
        heads = {index: update[rows.reshape(-1)] for index, update in result.updates.items()}
        valued, dtype = self._screened.participants, run.parameters.dtype
        sent = DistributedUpdates(heads, valued, run.topology, size=rows.numel(), dtype=dtype).gather()
        return (self._mixing @ sent.double().cpu()).reshape(-1, *rows.shape)

    @cached_property
    def held_class_rows(self) -> Tensor:
        """Which entries of the last layer each player holds, bool of shape (G, K, F)."""
        run, screened, rows = self._run, self._screened, self._head.to(self._run.topology.device)
        # Those that are valued as one share a width, so a player holds what its first participant holds.
        first = [screened.participants[screened.group.index(player)] for player in range(self.players)]
        return torch.stack([run.masks.mask(run.widths[index])[rows].cpu() for index in first])

    @cached_property
    def own_accuracies(self) -> Tensor:
        """Validation accuracy in [0, 1] of each player's own model, (G,)."""
        assert self._start.parameters is not None
        return self._of_players(own_accuracies(self._run, self._result.updates, self._start.parameters))

    @cached_property
    def clipped_accuracies(self) -> Tensor:
        """The same where entries of updates are cut, (G,)."""
        if self._clip is None:
            return self.own_accuracies
        assert self._start.parameters is not None
        found = own_accuracies(self._run, self._result.updates, self._start.parameters, clip=self._clip)
        return self._of_players(found)

    @cached_property
    def likeness(self) -> Tensor:
        """How alike losses on each player's data and on the validation part are, in [0, 1], (G,)."""
        return self._of_players(self.likeness_of_participants)

    @cached_property
    def likeness_of_participants(self) -> Tensor:
        """The same of each participant, (N,); 0 without an update."""
        assert self._start.parameters is not None
        divergences = loss_divergences(self._run, self._result.updates, self._start.parameters)
        return torch.from_numpy(loss_likeness(divergences.tolist()))

    @cached_property
    def game(self) -> CachedUtility:
        """Worth of the model had only a coalition's updates been applied; no coalition is evaluated twice."""
        base, run, screened = self._start.parameters, self._run, self._screened
        assert base is not None
        steps = {index: self._step(index) for index in self._result.updates if index in self._result.weights}
        distributed = DistributedUpdates(steps, screened.participants, run.topology, size=len(base), dtype=base.dtype)
        players = torch.zeros(self.players, len(base), dtype=base.dtype, device=base.device)
        for player, step in zip(screened.group, distributed.gather(), strict=True):
            players[player] += step
        return CachedUtility(coalition_utility(run, base, players, utility_of(run, self._utility)))

    @cached_property
    def sampling(self) -> Sampling:
        """How values of the game are estimated where there are many players."""
        budget = DEFAULT_BUDGET * self.players if self._budget is None else self._budget
        # Libraries take seeds of 32 bits, and count on from them.
        return Sampling(budget, derive_seed(self._run.config.seed, "coalitions", self._result.round) % 2**31)

    @cached_property
    def _products(self) -> "Products":
        vectors = {}
        if self._start.gradient is not None:
            # An update counts in the average by its weight over the coverage; the weight comes in later.
            coverage = self._result.coverage
            vectors["gradient"] = torch.where(coverage > 0, self._start.gradient / coverage, 0.0)
        return update_products(self._run, self._result.updates, vectors)

    @cached_property
    def _head(self) -> Tensor:
        return head_positions(self._run.classifier.network.full, self._run.data.num_classes)

    def _before(self, name: str) -> Tensor:
        """Return a measure's values before the round, (G,); the mean of the known ones for whoever has none."""
        values = self._earlier[name]
        known = values[~values.isnan()]
        return self._of_players(values.nan_to_num(known.mean().item() if len(known) else 0.0))

    def _of_players(self, values: Tensor) -> Tensor:
        """Return values of all participants, (N,), as the weighted means over each player's participants, (G,)."""
        return self._mixing @ values[self._screened.participants]

    def _step(self, index: int) -> Tensor:
        """Return how far a participant moved the server: its weighted share of the average, shape (P,)."""
        update, coverage = self._result.updates[index], self._result.coverage
        weighted = update.double() * self._result.weights[index]
        return torch.where(coverage > 0, weighted / coverage, 0.0).to(update.dtype)


def utility_of(run: Run, name: str | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what a model is worth on validation data, from its outputs and the targets.

    Args:
        run: The run.
        name: A function of ``contributions.utilities``; ``score``: the model's own score; None: balanced accuracy where
            targets are classes, else the score.

    Raises:
        InputError: The function is for classes, and the model has none.
    """
    module = run.classifier
    if name is None:
        name = "balanced_accuracy" if module.has_classes else "score"
    if name == "score":
        inputs, score = run.data.validation().tensors[0], module.scorer
        return lambda outputs, targets: torch.tensor(score.measure([(outputs, (inputs, targets))]).value)
    if not module.has_classes:
        raise InputError(
            f"trainer.assessment.utility={name} is for classes, and this model does not classify; choose score."
        )
    function: Callable[[Tensor, Tensor], Tensor] = getattr(utilities, name)
    return function


@dataclass(frozen=True)
class Products:
    """Inner products of all participants' updates with vectors that every process knows.

    Attributes:
        squares: Squared length of each update, (N,); 0 without an update.
        along: Product of each update with a vector, (N,), by the vector's name.
        held: Squared length of the part of a vector that the participant holds, (N,), by the vector's name.
    """

    squares: Tensor
    along: Mapping[str, Tensor]
    held: Mapping[str, Tensor]


def update_products(run: Run, updates: Mapping[int, Tensor], vectors: Mapping[str, Tensor]) -> Products:
    """Multiply each update with some vectors, where the update lies; a collective operation.

    Args:
        run: The run, in a round.
        updates: Updates of the participants that this group hosted, by index; of shape (P,).
        vectors: float64 of shape (P,), by name, the same in every process.
    """
    table = torch.zeros(run.data.participants, 1 + 2 * len(vectors), dtype=torch.float64)
    squares: dict[tuple[str, float], float] = {}
    for index, update in updates.items():
        precise, width = update.double(), run.widths[index]
        table[index, 0] = float(precise @ precise)
        for column, (name, vector) in enumerate(vectors.items()):
            if (name, width) not in squares:
                part = vector if width == 1 else vector[run.masks.mask(width)]
                squares[name, width] = float(part @ part)
            table[index, 1 + 2 * column : 3 + 2 * column] = torch.tensor(
                [float(precise @ vector), squares[name, width]], dtype=torch.float64
            )
    columns = run.topology.merge(table).unbind(dim=1)
    return Products(
        columns[0], dict(zip(vectors, columns[1::2], strict=True)), dict(zip(vectors, columns[2::2], strict=True))
    )


def head_positions(network: nn.Module, classes: int) -> Tensor:
    """Return where the rows of the last layer, one per class, lie in the vector of all trainable parameters.

    Args:
        network: A classifier.
        classes: Number of classes K.

    Returns:
        int64 of shape (K, F): the F numbers of each class, its bias last if it has one.

    Raises:
        InputError: When no layer has a row per class.

    Example:
        >>> head_positions(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 3)), 3).tolist()
        [[4, 5, 10], [6, 7, 11], [8, 9, 12]]
    """
    trainable = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    ends = np.cumsum([parameter.numel() for _, parameter in trainable])
    places = {
        name: torch.arange(int(end) - parameter.numel(), int(end)).view(parameter.shape)
        for (name, parameter), end in zip(trainable, ends, strict=True)
    }
    heads = [name for name, place in places.items() if place.ndim >= 2 and len(place) == classes]
    if not heads:
        raise InputError(f"measure 'class_cosine' needs a last layer with a row for each of the {classes} classes.")
    parts = [places[heads[-1]].reshape(classes, -1)]
    bias = places.get(heads[-1].removesuffix("weight") + "bias")
    return torch.cat(parts if bias is None else [*parts, bias[:, None]], dim=1)
