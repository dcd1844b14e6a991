"""The five federated-averaging workloads that every peer runs: same bytes, same batches in the same order.

Synthetic images of ten classes, a small convolutional network, one local epoch of plain SGD over batches in order, and
the mean of the models weighted by samples. Everything is a pure function of the workload, so that each peer can make it
for itself in its own environment.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

CLASSES, LEARNING_RATE, SEED, TEST_SAMPLES = 10, 0.05, 7, 1000


@dataclass(frozen=True)
class Workload:
    """Sizes of one problem.

    Attributes:
        clients: All participants there are.
        cohort: Those that take part in a round.
        samples: Training samples of each participant.
        side: Height and width of an image.
        batch: Samples of a batch.
        rounds: Rounds that are run.
    """

    clients: int
    cohort: int
    samples: int
    side: int
    batch: int
    rounds: int

    @property
    def steps(self) -> int:
        """Steps of all participants of a round together."""
        return self.cohort * math.ceil(self.samples / self.batch)


WORKLOADS = {
    "silo10": Workload(10, 10, 600, 28, 32, 6),
    "device100": Workload(100, 100, 20, 28, 10, 8),
    "partial100": Workload(100, 10, 60, 28, 20, 12),
    "tiny1000": Workload(1000, 100, 20, 8, 10, 10),
    "pop10000": Workload(10000, 50, 20, 8, 10, 10),
}


def make_data(work: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Return images, float32 of shape (clients, samples, 1, side, side), and classes, int64 of (clients, samples)."""
    images, classes = _draw(work)
    count, shape = work.clients * work.samples, (work.clients, work.samples)
    return images[:count].reshape(*shape, *images.shape[1:]), classes[:count].reshape(shape)


def make_test_data(work: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Return images, float32 of shape (TEST_SAMPLES, 1, side, side), and classes that nobody trains on."""
    images, classes = _draw(work)
    return images[-TEST_SAMPLES:], classes[-TEST_SAMPLES:]


def _draw(work: Workload) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.RandomState(SEED)
    coarse = max(4, work.side // 4)
    templates = generator.randn(CLASSES, coarse, coarse).astype(np.float32)
    scale = math.ceil(work.side / coarse)
    templates = np.kron(templates, np.ones((1, scale, scale), np.float32))[:, : work.side, : work.side]
    templates /= templates.std()
    parts = []
    for count in (work.clients * work.samples, TEST_SAMPLES):
        classes = generator.randint(0, CLASSES, count)
        noise = generator.randn(count, work.side, work.side)
        parts.append(((templates[classes] + 1.5 * noise).astype(np.float32)[:, None], classes.astype(np.int64)))
    images, classes = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(classes)


def cohort(work: Workload, number: int) -> list[int]:
    """Return the participants of a round, counted from 0, ascending."""
    if work.cohort == work.clients:
        return list(range(work.clients))
    return sorted(np.random.RandomState(1000 + number).choice(work.clients, work.cohort, replace=False).tolist())


def build_network(*, num_classes: int = CLASSES, input_shape: tuple[int, ...]) -> nn.Module:
    """Return the network with its first weights, the same for everybody."""
    import torch
    from torch import nn

    torch.manual_seed(SEED)
    quarter = input_shape[-1] // 4
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * quarter * quarter, 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )


class Run:
    """One peer's run of one workload, as its script sees it.

    The script is called with the workload, the number of rounds and the file for the result. It calls :meth:`rounds`
    around its rounds, or :meth:`lap` at the end of each, and :meth:`finish` with the final parameters.
    """

    def __init__(self) -> None:
        self.name, rounds, self.path = sys.argv[1:4]
        self.work, self.count = WORKLOADS[self.name], int(rounds)
        self.seconds: list[float] = []
        # Of the processor, in this process: neighbours on the machine do not lengthen them much.
        self.processor: list[float] = []

    def start(self) -> None:
        """The first round is about to begin."""
        self.started = time.time() - float(os.environ.get("BENCHMARK_BEGAN", time.time()))
        self._began, self._worked = time.perf_counter(), time.process_time()

    def lap(self) -> None:
        """A round has ended."""
        now, worked = time.perf_counter(), time.process_time()
        self.seconds.append(now - self._began)
        self.processor.append(worked - self._worked)
        self._began, self._worked = now, worked

    def rounds(self) -> Iterator[int]:
        """Yield the numbers of the rounds, from 0, and time each."""
        self.start()
        for number in range(self.count):
            yield number
            self.lap()

    def finish(self, parameters: list[np.ndarray], **more: list[float]) -> None:
        """Write the seconds of each round, further figures, and the final parameters in the order of the network's."""
        more |= {"seconds": self.seconds, "processor": self.processor, "start": [self.started]}
        flat = np.concatenate([np.asarray(value, np.float32).reshape(-1) for value in parameters])
        np.save(Path(self.path).with_suffix(".npy"), flat)
        Path(self.path).write_text(json.dumps(more))
