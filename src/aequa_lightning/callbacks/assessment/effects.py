"""What an update does on the classes that its participant says it has."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from aequa_lightning.callbacks.assessment.valuation import received_model
from aequa_lightning.engine.evaluation import AtWidth, input_batches
from aequa_lightning.engine.run import Run

# Validation samples that are looked at: each update costs two passes over them.
SAMPLES = 512
# A sample's loss counts up to here, so that an update that is far too long does not decide alone.
LARGEST_LOSS = 10.0


@torch.no_grad()
def claimed_effects(run: Run, updates: Mapping[int, Tensor]) -> Tensor:
    """Return how much better each update does than its opposite; a collective operation.

    Both are added to what the participant received. The validation loss is weighted by the shares of the classes that
    the participant says it holds: training on its own data makes its model better on its own classes, however
    few they are and whatever it forgets of the others.

    Args:
        run: The run, in a round whose updates have not moved the server.
        updates: Updates of the participants that this group hosted, by index; of shape (P,).

    Returns:
        Loss after the opposite less loss after the update, (N,), float64; 0 without an update, where the validation
        part has none of the participant's classes, or where targets are no classes.
    """
    effects = torch.zeros(run.data.participants, dtype=torch.float64)
    if not run.classifier.has_classes:
        return effects
    subset, counts = _spread(run.data.validation(), SAMPLES), torch.from_numpy(run.data.class_counts()).double()
    for index, update in updates.items():
        received, width = received_model(run, index, run.parameters), run.widths[index]
        after, opposite = (
            _loss(run, received + sign * update, width, subset=subset, classes=counts[index]) for sign in (1, -1)
        )
        effects[index] = opposite - after
    return run.topology.merge(effects)


def _loss(run: Run, parameters: Tensor, width: float, *, subset: TensorDataset, classes: Tensor) -> float:
    """Return the mean loss over classes, weighted by their counts, of a model; 0 without any of them."""
    device, targets = run.topology.device, subset.tensors[1]
    with run.model_at(parameters):
        network = AtWidth(run.classifier.network, width).eval()
        if run.classifier.network.has_statistics:
            run.classifier.network.recalibrate(input_batches(run.classifier, subset, device), [width])
            network.eval()
        logits = torch.cat([network(batch).double().cpu() for batch in input_batches(run.classifier, subset, device)])
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    losses = losses.nan_to_num(LARGEST_LOSS).clamp(max=LARGEST_LOSS)
    seen = torch.bincount(targets, minlength=len(classes)).double()
    by_class = torch.zeros_like(classes).index_add(0, targets, losses)
    weights = torch.where(seen > 0, classes, 0.0)
    total = weights.sum()
    return float((weights * by_class / seen.clamp(min=1)).sum() / total) if total > 0 else 0.0


def _spread(dataset: TensorDataset, most: int) -> TensorDataset:
    """Return at most so many samples, evenly spread over a data set that may be ordered by class."""
    size = len(dataset)
    places = torch.arange(min(size, most)) * size // min(size, most)
    return TensorDataset(*(tensor[places] for tensor in dataset.tensors))
