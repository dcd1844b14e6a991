"""Scores of a network, and of the shared model at many widths, which are divided over the processes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import TensorDataset

from aequa_lightning.engine.local.work import batch_spans, channels_last
from aequa_lightning.engine.processes.seeding import seed_global_generators
from aequa_lightning.engine.processes.topology import Topology
from aequa_lightning.modules.score import Scored
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.modules.task import Task
from aequa_lightning.runtime.process_settings import evaluating
from aequa_lightning.slimmable import SlimmableModel, Width

# The same size everywhere, because rounding, and so a predicted class, may depend on it.
EVALUATION_BATCH_SIZE = 500


def evaluation_batches(dataset: TensorDataset, device: torch.device) -> Iterator[Any]:
    """Yield the batches by which a data set is evaluated, on the device; a single left-over sample joins the last one.

    Norm layers that see one value per channel and sample cannot normalise a single sample.

    Example:
        >>> samples = TensorDataset(torch.zeros(1001), torch.zeros(1001))
        >>> [len(inputs) for inputs, _ in evaluation_batches(samples, torch.device("cpu"))]
        [500, 501]
    """
    inputs, targets = dataset.tensors
    for start, end in batch_spans(len(inputs), EVALUATION_BATCH_SIZE):
        yield (
            channels_last(inputs[start:end].to(device, non_blocking=True)),
            targets[start:end].to(device, non_blocking=True),
        )


def input_batches(task: Task, dataset: TensorDataset, device: torch.device) -> Iterator[Any]:
    """Yield the inputs of a data set in evaluation batches on the device, as the network is called with them."""
    for batch in evaluation_batches(dataset, device):
        yield task.inputs(batch)


@torch.no_grad()
def outputs_of(
    task: Task, network: torch.nn.Module, dataset: TensorDataset, *, device: torch.device
) -> Iterator[tuple[Any, Any]]:
    """Yield outputs and batch of each evaluation batch.

    Args:
        task: Knows the inputs of a batch.
        network: Called with them, in evaluation mode.
        dataset: The samples.
        device: Where the network lives.
    """
    # A network that draws random numbers in evaluation has the same score each time.
    seed_global_generators(0, device)
    with evaluating(network):
        for batch in evaluation_batches(dataset, device):
            yield network(task.inputs(batch)), batch


def score_of(task: Task, network: torch.nn.Module, dataset: TensorDataset, *, device: torch.device) -> Scored:
    """Return the score of a network; see :func:`outputs_of`."""
    return task.scorer.measure(outputs_of(task, network, dataset, device=device))


class AtWidth(torch.nn.Module):
    """A slimmable model at one width, called like any network.

    Args:
        model: The slimmable model.
        width: In [smallest width, 1], of all layers or of each.
    """

    def __init__(self, model: SlimmableModel, width: Width) -> None:
        super().__init__()
        self.model, self.width = model, width

    def forward(self, inputs: Any) -> Any:
        """Return the outputs at the width."""
        return self.model(inputs, self.width)


class Evaluator:
    """Measures widths of the shared model on the server's data.

    Args:
        module: The shared model.
        topology: Where this process stands; each process evaluates its share of the widths.
        calibration: Samples from which the statistics of norm layers are computed for each width; labels are not used.
    """

    def __init__(self, module: SlimmableModule, topology: Topology, *, calibration: TensorDataset) -> None:
        self.module, self.topology, self.calibration = module, topology, calibration

    def calibrate(self, width: Width) -> None:
        """Compute the statistics of norm layers at a width for the present parameters."""
        network = self.module.network
        if network.has_statistics:
            seed_global_generators(0, self.topology.device)
            network.recalibrate(input_batches(self.module, self.calibration, self.topology.device), [width])

    def score(self, width: Width, dataset: TensorDataset) -> Scored:
        """Return the score of the calibrated model at a width, in this process alone."""
        return score_of(self.module, AtWidth(self.module.network, width), dataset, device=self.topology.device)

    def values(self, widths: Sequence[float], dataset: TensorDataset) -> dict[float, float]:
        """Return the score in [0, 1] of each width, the same on all processes; a collective operation.

        Args:
            widths: Widths in [smallest width, 1].
            dataset: The samples, such as the validation part.
        """
        return {width: one.value for width, one in zip(widths, self.scores(widths, dataset), strict=True)}

    def scores(
        self,
        widths: Sequence[Width],
        dataset: TensorDataset,
        *,
        on_measured: Callable[[int], None] | None = None,
    ) -> list[Scored]:
        """Return the score of each width, with its statistics on the CPU; a collective operation.

        Args:
            widths: Widths in [smallest width, 1], of all layers or of each.
            dataset: The samples, such as the validation part.
            on_measured: Called with about how many widths all processes have measured, after each one here.

        Returns:
            The same on all processes.
        """
        values = torch.zeros(len(widths), dtype=torch.float64)
        statistics = torch.zeros(len(widths), len(dataset), self.module.scorer.size, dtype=torch.float64)
        for index in range(self.topology.rank, len(widths), self.topology.processes):
            self.calibrate(widths[index])
            scored = self.score(widths[index], dataset)
            values[index], statistics[index] = scored.value, scored.statistics
            if on_measured is not None:
                on_measured(min(index - self.topology.rank + self.topology.processes, len(widths)))
        merge = self.topology.merge_over_processes
        return [Scored(value, kept) for value, kept in zip(merge(values).tolist(), merge(statistics), strict=True)]
