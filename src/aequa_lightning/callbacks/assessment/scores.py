"""The scores of one round: what each player's update is worth by each measure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from aequa_lightning.callbacks.assessment.screening import GateResult
from aequa_lightning.contributions.alignment import class_cosines, gradient_alignment
from aequa_lightning.contributions.reputation import validation_reputation
from aequa_lightning.engine.callback import RoundResult
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.collectives import gather
from aequa_lightning.errors import InputError


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

    def cosines(self, name: str) -> Tensor:
        """Return the cosine of each update with a vector, over what the participant holds, (N,)."""
        return cosines(self.along[name], self.squares, self.held[name])


def cosines(products: Tensor, squares: Tensor, others: Tensor) -> Tensor:
    """Return products over lengths; 0 where a length is 0.

    Args:
        products: Inner products, (N,).
        squares: Squared lengths on one side, (N,).
        others: Squared lengths on the other side, (N,).

    Example:
        >>> cosines(torch.tensor([3.0, 0.0]), torch.tensor([1.0, 0.0]), torch.tensor([9.0, 9.0])).tolist()
        [1.0, 0.0]
    """
    lengths = (squares * others).sqrt()
    return torch.where(lengths > 0, products / lengths, 0.0).clamp(-1, 1)


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


def cosine_scores(screened: GateResult, gram: Tensor, products: Products, weights: Tensor) -> Tensor:
    """Return the cosine of each player's update with the aggregate (CGSV), over what the player holds.

    Args:
        screened: Who is valued.
        gram: Inner products of the valued updates, (K, K).
        products: With the vector ``aggregate``.
        weights: Aggregation weight of each valued participant, (K,).

    Returns:
        (G,), float64.
    """
    mixing, _ = screened.merge(weights)
    squares = (mixing @ gram @ mixing.T).diagonal()
    along, held = (mixing @ part["aggregate"][screened.participants] for part in (products.along, products.held))
    return cosines(along, squares, held)


def class_cosine_scores(run: Run, result: RoundResult, screened: GateResult, weights: Tensor) -> Tensor:
    """Return the mean over classes of the cosine of each player's last-layer rows with the aggregate's (ShapFed).

    Args:
        run: The run, at the end of a round.
        result: The round.
        screened: Who is valued.
        weights: Aggregation weight of each valued participant, (K,).

    Returns:
        (G,), float64.
    """
    rows = head_positions(run.classifier.network.full, run.data.num_classes).to(run.topology.device)
    heads = {index: update[rows.reshape(-1)] for index, update in result.updates.items()}
    dtype = run.parameters.dtype
    sent = gather(heads, screened.participants, run.topology, start=0, end=rows.numel(), dtype=dtype).double().cpu()
    mixing, _ = screened.merge(weights)
    players = (mixing @ sent).reshape(-1, *rows.shape)
    aggregate = result.mean_update[rows].cpu()
    # Clones share a width, so a player holds what its first participant holds.
    first = [screened.participants[screened.group.index(player)] for player in range(len(players))]
    held = [run.masks.mask(run.widths[index])[rows].cpu() for index in first]
    scores = [class_cosines(player[None], aggregate * part).mean() for player, part in zip(players, held, strict=True)]
    return torch.stack(scores)


def alignment_scores(screened: GateResult, products: Products, weights: Tensor) -> Tensor:
    """Return the first-order drop of the validation loss that each player's step brings (DIG-FL).

    Args:
        screened: Who is valued.
        products: With the vector ``gradient``, divided by the coverage.
        weights: Aggregation weight of each valued participant, (K,).

    Returns:
        (G,), float64.
    """
    mixing, joint = screened.merge(weights)
    return gradient_alignment(mixing @ products.along["gradient"][screened.participants], joint)


def accuracy_scores(screened: GateResult, accuracies: Tensor, weights: Tensor, *, participants: int) -> Tensor:
    """Return the reputation of the round that each player's own model earns (CFFL).

    Args:
        screened: Who is valued.
        accuracies: Validation accuracy in [0, 1] of everybody's own model, (N,).
        weights: Aggregation weight of each valued participant, (K,).
        participants: Number of all, N: where not everybody takes part, those who do share their part of the whole.

    Returns:
        (G,), float64.
    """
    mixing, _ = screened.merge(weights)
    earned = validation_reputation(mixing @ accuracies[screened.participants])
    return earned * len(screened.participants) / participants


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
