"""What code of a rival's authors needs around it, so that it runs on planted updates: network, training, names."""

import ast
import collections
import contextlib
import copy
import itertools
import logging
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
from torch import Tensor, nn
from torch.linalg import norm
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

CPU = torch.device("cpu")


class Net(nn.Module):
    """A perceptron whose last layer is called ``linear``, and whose hidden neurons can be gated."""

    def __init__(self, sizes: Sequence[int] = (64, 200, 200, 10)) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes[:-1]))
        self.linear = nn.Linear(sizes[-2], sizes[-1])
        self.map: Any = None

    def forward(self, inputs: Tensor) -> Tensor:
        values = inputs.flatten(1)
        for place, layer in enumerate(self.hidden):
            values = layer(values).relu()
            if self.map is not None:
                values = values * self.map[place]
        return self.linear(values)

    def set_map(self, map: Any = None) -> None:
        self.map = map

    def cuda(self, device: Any = None) -> "Net":
        return self

    def get_device(self) -> torch.device:
        return CPU

    def freeze_grad(self) -> None: ...

    def __sub__(self, other: "Net") -> "Net":
        return self.of(vector(self) - vector(other))

    def __add__(self, other: "Net") -> "Net":
        return self.of(vector(self) + vector(other))

    def of(self, parameters: Tensor) -> "Net":
        other = Net(self.sizes)
        vector_to_parameters(parameters.float().clone(), other.parameters())
        return other


@dataclass
class Case:
    """What a rule is run on.

    Attributes:
        start: What everybody starts from, (P,).
        sizes: Units of the perceptron's layers.
        planted: Everybody's update in each round, (N, P).
        samples: Training samples of each participant, (N,).
        validation: Inputs and classes.
        standalone: Accuracy that each reaches alone, (N,).
        losses: Returns a participant's batch losses, and those on the validation samples, by model, round and index.
        draws: For each round, whose updates everybody averages, bool of shape (N, N), and who is reset after it, (N,).
    """

    start: Tensor
    sizes: tuple[int, ...]
    planted: list[Tensor]
    samples: list[int]
    validation: tuple[Tensor, Tensor]
    standalone: list[float]
    losses: Callable[[Tensor, int, int], tuple[list[float], list[float]]]
    draws: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    @property
    def participants(self) -> int:
        return len(self.samples)

    def net(self) -> Net:
        net = Net(self.sizes)
        vector_to_parameters(self.start.clone(), net.parameters())
        return net

    def accuracy(self, net: nn.Module) -> float:
        inputs, targets = self.validation
        with torch.no_grad():
            return float((net(inputs).argmax(dim=1) == targets).double().mean())


def vector(net: nn.Module) -> Tensor:
    return parameters_to_vector(net.parameters()).detach().clone()


class Training:
    """Takes the place of local training; notes what everybody starts a round from."""

    def __init__(self, case: Case) -> None:
        self.case, self.started = case, list[Tensor]()

    def __call__(self, net: nn.Module, *ignored: Any, **also: Any) -> nn.Module:
        self.started.append(vector(net))
        number, index = divmod(len(self.started) - 1, self.case.participants)
        vector_to_parameters(vector(net) + self.case.planted[number][index], net.parameters())
        return net

    def delivered(self, nets: Sequence[nn.Module]) -> list[Tensor]:
        """Return what everybody had after each round, (N, P), given the models after the last."""
        rows = torch.stack(self.started[self.case.participants :] + [vector(net) for net in nets])
        return list(rows.split(self.case.participants))


def definitions(path: Path, names: dict[str, Any]) -> dict[str, Any]:
    """Run the functions and classes of a module, without its imports, in a namespace."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    exec(compile(tree, str(path), "exec"), names)
    return names


def excerpt(path: Path, first: str, last: str | None, names: dict[str, Any]) -> dict[str, Any]:
    """Run the lines of a script from one that holds ``first`` up to one that holds ``last``, in a namespace."""
    lines = path.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if first in line)
    # A comment may be indented otherwise than the code below it.
    start += lines[start].lstrip().startswith("#")
    end = next((number for number, line in enumerate(lines) if last and number > start and last in line), len(lines))
    exec(compile(textwrap.dedent("\n".join(lines[start:end])), str(path), "exec"), names)
    return names


def common() -> dict[str, Any]:
    """Return the names that the authors' modules import."""
    return {
        "torch": torch, "nn": nn, "F": functional, "np": np, "copy": copy, "dcopy": copy.deepcopy, "math": math,
        "defaultdict": collections.defaultdict, "collections": collections, "logging": logging, "scipy": scipy,
        "device": CPU, "Batch": type(None), "contextmanager": contextlib.contextmanager, "norm": norm,
        "print": lambda *words, **options: None,
    }  # fmt: skip


def perfs() -> dict[str, Any]:
    return {name: collections.defaultdict(list) for name in ("valid_perfs", "local_perfs", "fed_perfs")}


def evaluated(*ignored: Any, **also: Any) -> tuple[Tensor, Tensor]:
    return torch.tensor(0.0), torch.tensor(0.0)


class LenientTorch:
    """PyTorch whose ``div`` takes plain numbers, and whose ``sort`` keeps the order of what is equal."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def div(self, first: Any, second: Any) -> Tensor:
        return torch.as_tensor(first) / torch.as_tensor(second)

    def sort(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sort(values, stable=True)
