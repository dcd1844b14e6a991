"""Accuracy of the shared model at many widths, spread over the processes."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from aequa_lightning.engine.local.memory_layout import channels_last
from aequa_lightning.engine.local.work import spans_of
from aequa_lightning.engine.processes.seeding import seed_global_generators
from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.runtime.process_settings import evaluating
from aequa_lightning.slimmable import SlimmableModel, Width

# One size everywhere, so that an accuracy measured twice is the same to the last digit.
EVALUATION_BATCH = 500


def evaluation_batches(table: Tensor) -> list[Tensor]:
    """Return the rows of a table in evaluation batches; a single left-over row joins the batch before it.

    Norm layers that see one value of each channel of a sample cannot normalise one sample alone.

    Example:
        >>> [len(batch) for batch in evaluation_batches(torch.zeros(1001))]
        [500, 501]
    """
    return [table[start:end] for start, end in spans_of(len(table), EVALUATION_BATCH)]


def input_batches(dataset: TensorDataset, device: torch.device) -> Iterator[Tensor]:
    """Yield the inputs of a data set in evaluation batches on the device."""
    for batch in evaluation_batches(dataset.tensors[0]):
        yield channels_last(batch.to(device, non_blocking=True))


@torch.no_grad()
def mark_correct(network: torch.nn.Module, dataset: TensorDataset, *, device: torch.device) -> Tensor:
    """Mark the samples whose largest logit is their class.

    Args:
        network: Called with a batch of inputs, in evaluation mode.
        dataset: Inputs and classes.
        device: Where the network lives.

    Returns:
        bool of shape (samples,), on the device.
    """
    # A network that draws random numbers has an accuracy of its own, too, whatever was computed before.
    seed_global_generators(0, device)
    batches = zip(input_batches(dataset, device), evaluation_batches(dataset.tensors[1]), strict=True)
    with evaluating(network):
        marks = [network(batch).argmax(-1) == classes.to(device, non_blocking=True) for batch, classes in batches]
    return torch.cat(marks)


def count_correct(network: torch.nn.Module, dataset: TensorDataset, *, device: torch.device) -> int:
    """Count the samples whose largest logit is their class; see :func:`mark_correct`."""
    return int(mark_correct(network, dataset, device=device).sum())


class AtWidth(torch.nn.Module):
    """A slimmable model held at one width, called like any network.

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
        topology: Each process measures its part of the widths.
        calibration: Data, labels unused, on which the statistics of normalisation layers are taken for every width.
    """

    def __init__(self, model: SlimmableModel, topology: Topology, *, calibration: TensorDataset) -> None:
        self.model, self.topology, self.calibration = model, topology, calibration

    def calibrate(self, width: Width) -> None:
        """Give a width its own normalisation statistics for the present parameters."""
        if self.model.has_statistics:
            seed_global_generators(0, self.topology.device)
            self.model.recalibrate(input_batches(self.calibration, self.topology.device), [width])

    def accuracies(self, widths: Sequence[float], datasets: Sequence[TensorDataset]) -> list[dict[float, float]]:
        """Measure the accuracy of every width on every data set; a collective operation.

        Args:
            widths: Widths in [smallest width, 1].
            datasets: For example the validation and the test part.

        Returns:
            For each data set the accuracy in [0, 1] of each width, the same on all processes.
        """
        correct = torch.zeros(len(datasets), len(widths), dtype=torch.int64)
        for index, network in self._own_part(widths):
            for row, dataset in enumerate(datasets):
                correct[row, index] = count_correct(network, dataset, device=self.topology.device)
        correct = self.topology.merge_over_processes(correct)
        return [
            {width: int(count) / len(dataset) for width, count in zip(widths, counts, strict=True)}
            for dataset, counts in zip(datasets, correct, strict=True)
        ]

    def correct(self, widths: Sequence[Width], dataset: TensorDataset) -> Tensor:
        """Tell which samples each width gets right; a collective operation.

        Args:
            widths: Widths in [smallest width, 1].
            dataset: For example the validation part.

        Returns:
            bool of shape (widths, samples), the same on all processes.
        """
        correct = torch.zeros(len(widths), len(dataset), dtype=torch.int32)
        for index, network in self._own_part(widths):
            correct[index] = mark_correct(network, dataset, device=self.topology.device)
        return self.topology.merge_over_processes(correct).bool()

    def _own_part(self, widths: Sequence[Width]) -> Iterator[tuple[int, AtWidth]]:
        """Yield the place and the calibrated network of each width that this process measures."""
        for index in range(self.topology.rank, len(widths), self.topology.processes):
            self.calibrate(widths[index])
            yield index, AtWidth(self.model, widths[index])
