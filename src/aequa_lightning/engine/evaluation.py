"""Accuracy of a network, and of the shared model at many widths, which are divided over the processes."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from aequa_lightning.engine.local.work import batch_spans, channels_last
from aequa_lightning.engine.processes.seeding import seed_global_generators
from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.runtime.process_settings import evaluating
from aequa_lightning.slimmable import SlimmableModel, Width

# The same size everywhere, because rounding, and so a predicted class, may depend on it.
EVALUATION_BATCH_SIZE = 500


def evaluation_batches(table: Tensor) -> list[Tensor]:
    """Return the rows of a table in evaluation batches; a single left-over row joins the batch before it.

    Norm layers that see one value per channel and sample cannot normalise a single sample.

    Example:
        >>> [len(batch) for batch in evaluation_batches(torch.zeros(1001))]
        [500, 501]
    """
    return [table[start:end] for start, end in batch_spans(len(table), EVALUATION_BATCH_SIZE)]


def input_batches(dataset: TensorDataset, device: torch.device) -> Iterator[Tensor]:
    """Yield the inputs of a data set in evaluation batches on the device."""
    for batch in evaluation_batches(dataset.tensors[0]):
        yield channels_last(batch.to(device, non_blocking=True))


@torch.no_grad()
def predict(network: torch.nn.Module, dataset: TensorDataset, *, device: torch.device) -> Tensor:
    """Return the predicted class of each sample.

    Args:
        network: Called with a batch of inputs, in evaluation mode.
        dataset: Inputs and classes.
        device: Where the network lives.

    Returns:
        int64 of shape (samples,), on the device.
    """
    # A network that draws random numbers in evaluation has the same accuracy each time.
    seed_global_generators(0, device)
    with evaluating(network):
        return torch.cat([network(batch).argmax(-1) for batch in input_batches(dataset, device)])


def mark_correct(network: torch.nn.Module, dataset: TensorDataset, *, device: torch.device) -> Tensor:
    """Return which samples are classified correctly, bool of shape (samples,), on the device; see :func:`predict`."""
    return predict(network, dataset, device=device) == dataset.tensors[1].to(device, non_blocking=True)


def count_correct(network: torch.nn.Module, dataset: TensorDataset, *, device: torch.device) -> int:
    """Return the number of samples that are classified correctly; see :func:`predict`."""
    return int(mark_correct(network, dataset, device=device).sum())


class AtWidth(torch.nn.Module):
    """A slimmable model at one width, called like any network.

    Args:
        model: The slimmable model.
        width: In [smallest width, 1], of all layers or of each.
    """

    def __init__(self, model: SlimmableModel, width: Width) -> None:
        super().__init__()
        self.model, self.width = model, width

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits at the width."""
        logits: Tensor = self.model(inputs, self.width)
        return logits


class Evaluator:
    """Measures widths of the shared model on the server's data.

    Args:
        model: The shared model.
        topology: Where this process stands; each process evaluates its share of the widths.
        calibration: Samples from which the statistics of norm layers are computed for each width; labels are not used.
    """

    def __init__(self, model: SlimmableModel, topology: Topology, *, calibration: TensorDataset) -> None:
        self.model, self.topology, self.calibration = model, topology, calibration

    def calibrate(self, width: Width) -> None:
        """Compute the statistics of norm layers at a width for the present parameters."""
        if self.model.has_statistics:
            seed_global_generators(0, self.topology.device)
            self.model.recalibrate(input_batches(self.calibration, self.topology.device), [width])

    def accuracies(self, widths: Sequence[float], dataset: TensorDataset) -> dict[float, float]:
        """Return the accuracy in [0, 1] of each width, the same on all processes; a collective operation.

        Args:
            widths: Widths in [smallest width, 1].
            dataset: Inputs and classes, such as the validation part.
        """
        counts = self.correct(widths, dataset).sum(dim=1).tolist()
        return {width: count / len(dataset) for width, count in zip(widths, counts, strict=True)}

    def correct(
        self,
        widths: Sequence[Width],
        dataset: TensorDataset,
        *,
        on_measured: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Return which samples each width classifies correctly; a collective operation.

        Args:
            widths: Widths in [smallest width, 1], of all layers or of each.
            dataset: Inputs and classes, such as the validation part.
            on_measured: Called with about how many widths all processes have measured, after each one here.

        Returns:
            bool of shape (widths, samples), on the CPU, the same on all processes.
        """
        correct = torch.zeros(len(widths), len(dataset), dtype=torch.int32)
        for index in range(self.topology.rank, len(widths), self.topology.processes):
            self.calibrate(widths[index])
            network = AtWidth(self.model, widths[index])
            correct[index] = mark_correct(network, dataset, device=self.topology.device)
            if on_measured is not None:
                on_measured(min(index - self.topology.rank + self.topology.processes, len(widths)))
        return self.topology.merge_over_processes(correct).bool()
