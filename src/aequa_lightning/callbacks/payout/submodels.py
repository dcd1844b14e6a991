"""Rolling sub-models in a run: who holds which neurons, and how often each neuron was held so far."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aequa_lightning.callbacks.payout.round_models import parameters_in_order
from aequa_lightning.engine.run import Run
from aequa_lightning.errors import InputError
from aequa_lightning.mechanisms.payment import RollingSubmodels
from aequa_lightning.mechanisms.rolling import cuts, deserved_accuracies, least_used, submodel_sizes


class NeuronLedger:
    """Keeps count of the neurons that participants are sent.

    Args:
        run: The run.

    Raises:
        InputError: The network has no hidden layer whose neurons could be left out.
    """

    def __init__(self, run: Run) -> None:
        self._neuron_of, self._device = neurons_of(run.classifier), run.topology.device
        neurons = int(self._neuron_of.max()) + 1
        if not neurons:
            raise InputError(
                "trainer.mechanism=FedRAC leaves out neurons of linear and convolutional layers, and the model has no "
                "such layer before its last one; choose another mechanism."
            )
        self._usage = torch.zeros(neurons, dtype=torch.int64)
        self.neurons = torch.ones(run.data.participants, neurons, dtype=torch.bool)

    def choose(self, run: Run, payment: RollingSubmodels, *, standalone: Sequence[float], full: float) -> None:
        """Choose everybody's neurons for the next round; a collective operation.

        Args:
            run: The run, at the end of a round.
            payment: The rules.
            standalone: Validation accuracy in [0, 1] that each participant reaches alone, (N,).
            full: Validation accuracy in [0, 1] of the server's model.
        """
        order = torch.from_numpy(least_used(self._usage.numpy()))
        sizes = cuts(len(order), payment.steps)
        deserved = deserved_accuracies(
            standalone,
            full,
            round=run.round + 1,
            beta=payment.beta,
            early=payment.early,
            late=payment.late,
            switch=payment.switch,
        )
        accuracies = self._accuracies(run, order, sizes)
        self.neurons = torch.zeros_like(self.neurons)
        for index, size in enumerate(submodel_sizes(standalone, deserved.tolist(), accuracies, sizes)):
            self.neurons[index, order[:size]] = True
        self._usage += self.neurons.sum(dim=0)

    def entries(self) -> Tensor:
        """Return which parameters everybody is sent, bool of shape (N, P), on the device."""
        return self._entries(self.neurons)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"usage": self._usage.clone(), "neurons": self.neurons.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self._usage, self.neurons = state["usage"].clone(), state["neurons"].clone()

    def _entries(self, neurons: Tensor) -> Tensor:
        """Return which parameters belong to some neurons, (..., H), or to none at all, (..., P)."""
        everybodys = torch.ones(*neurons.shape[:-1], 1, dtype=torch.bool)
        # The last column is that of -1, of no neuron.
        return torch.cat([neurons, everybodys], dim=-1)[..., self._neuron_of].to(self._device)

    def _accuracies(self, run: Run, order: Tensor, sizes: Sequence[int]) -> list[float]:
        """Return the validation accuracy of each sub-model of the server's model, spread over the processes."""
        validation, topology = run.data.validation(), run.topology
        accuracies = torch.zeros(len(sizes), dtype=torch.float64)
        for place in range(topology.rank, len(sizes), topology.processes):
            neurons = torch.zeros(len(order), dtype=torch.bool)
            neurons[order[: sizes[place]]] = True
            with run.model_at(torch.where(self._entries(neurons), run.parameters, 0.0)):
                run.evaluator.calibrate(1.0)
                accuracies[place] = run.evaluator.score(1.0, validation).value
        return topology.merge_over_processes(accuracies).tolist()


def neurons_of(module: nn.Module) -> Tensor:
    """Return the hidden neuron that each trainable parameter belongs to, int64 of shape (P,); -1: to none.

    A neuron is an output of a linear or convolutional layer but the last such layer, with its weights, its bias, and
    its scale and shift in the norm layer behind it. Where a neuron's parameters are 0, it is 0 for every input that
    passes through a ReLU.

    Args:
        module: The model.

    Example:
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.LayerNorm(2), nn.ReLU(), nn.Linear(2, 1))
        >>> neurons_of(net).tolist()
        [0, 1, 0, 1, 0, 1, 0, 1, -1, -1, -1]
    """
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    rows, first, count = 0, 0, 0
    places: list[Tensor] = []
    for name, from_output, shape, start, end in parameters_in_order(module):
        layer = module.get_submodule(name.rpartition(".")[0])
        if isinstance(layer, (nn.Linear, *convolutions)) and from_output:
            if len(shape) > 1:
                rows, first, count = shape[0], count, count + shape[0]
            belongs = True
        else:
            # A norm layer behind it has as many scales and shifts; whatever else comes ends the layer.
            belongs = len(shape) == 1 and shape[0] == rows and from_output > 0
            rows = rows if belongs else 0
        numbers = torch.arange(first, first + shape[0]).repeat_interleave(int(np.prod(shape[1:]))) if belongs else -1
        places.append(torch.zeros(end - start, dtype=torch.int64) + numbers)
    return torch.cat(places)
