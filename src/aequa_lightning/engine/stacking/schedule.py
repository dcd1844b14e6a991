"""The batches, widths and random numbers of every step of a stack, which are those of unstacked training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from aequa_lightning.engine.local.trainer import LocalTrainer
from aequa_lightning.engine.local.work import Batch, LocalWork, batches
from aequa_lightning.engine.processes.seeding import derive_generator, derive_seed


@dataclass(frozen=True)
class Job:
    """One participant's work in a stack.

    Attributes:
        inputs: Its samples, on the device.
        targets: Their targets, on the device.
        work: How much it trains.
        keys: Identify the work; with the seed they determine everything random in it.
    """

    inputs: Tensor
    targets: Tensor
    work: LocalWork
    keys: tuple[int | str, ...]


class StackBatch(NamedTuple):
    """Batches of equal size of some rows of a stack, and the widths that each row drew, equally many."""

    rows: list[int]
    inputs: Tensor
    targets: Tensor
    widths: list[tuple[float, ...]]


class StackSchedule:
    """The steps of all participants of a stack, as :class:`LocalTrainer` would train each of them.

    Args:
        local: Has the batch size, the rule for widths, the seed and the augmentation.
        jobs: The work of each participant.
        grid: Widths that the steps draw from.

    Attributes:
        order: The job of each row; those with the most steps come first.
        places: The row of each job.
        steps: Steps of each row.
        active: Number of rows that take part in each step, and 0 after the last.
    """

    def __init__(self, local: LocalTrainer, jobs: Sequence[Job], grid: Sequence[float]) -> None:
        self.local, self.grid = local, grid
        seeds = [derive_seed(local.seed, *job.keys) for job in jobs]
        indices = [
            [
                _numbers(batch)
                for batch in batches(
                    len(job.targets), job.work, local.batch_size, seed=seed, min_samples=local.min_batch_size
                )
            ]
            for job, seed in zip(jobs, seeds, strict=True)
        ]
        self.order = sorted(range(len(jobs)), key=lambda place: (-len(indices[place]), place))
        self.places = sorted(range(len(jobs)), key=self.order.__getitem__)
        self.steps = [len(indices[place]) for place in self.order]
        self.active = [sum(count > step for count in self.steps) for step in range(self.steps[0] + 1)]
        # All samples in one table, so that one operation takes the batches of all rows.
        rows = [jobs[place] for place in self.order]
        self._inputs = torch.cat([job.inputs for job in rows])
        self._targets = torch.cat([job.targets for job in rows])
        self._offsets = torch.tensor([0, *(len(job.targets) for job in rows[:-1])]).cumsum(0)[:, None]
        self._indices = [indices[place] for place in self.order]
        self._first_steps = [derive_seed(seeds[place], "widths") for place in self.order]
        self._draws: list[Tensor] = []
        if local.augmentation is not None:
            self._draws = [derive_generator(seeds[place], "replica", 0).get_state() for place in self.order]

    def batches(self, step: int) -> Iterator[StackBatch]:
        """Yield the batches of a step, those of equal size together."""
        by_size: dict[int, list[int]] = {}
        for row in range(self.active[step]):
            by_size.setdefault(self._indices[row][step].numel(), []).append(row)
        for rows in by_size.values():
            offsets = self._offsets[index_of(rows, self._offsets.device)]
            index = torch.stack([self._indices[row][step] for row in rows]) + offsets
            index = index.to(self._targets.device, non_blocking=True)
            inputs = self._augmented(self._inputs[index], rows)
            rule = self.local.classifier.rule
            widths = [rule.draw_widths(self.grid, step=self._first_steps[row] + step) for row in rows]
            yield StackBatch(rows, inputs, self._targets[index], widths)

    def _augmented(self, inputs: Tensor, rows: list[int]) -> Tensor:
        """Return the batches of some rows, augmented, each with its own random numbers."""
        if self.local.augmentation is None:
            return inputs
        augmented = []
        for row, batch in zip(rows, inputs, strict=True):
            torch.default_generator.set_state(self._draws[row])
            augmented.append(self.local.augmentation(batch))
            self._draws[row] = torch.default_generator.get_state()
        return torch.stack(augmented)


def _numbers(batch: Batch) -> Tensor:
    """Return the indices of a batch's samples as a tensor."""
    return torch.arange(batch.start, batch.stop) if isinstance(batch, range) else batch


def index_of(rows: list[int], device: torch.device) -> slice | Tensor:
    """Return an index for the given rows, ascending, of a table: a slice, without a copy, for the first rows.

    Example:
        >>> index_of([0, 1], torch.device("cpu")), index_of([0, 2], torch.device("cpu"))
        (slice(0, 2, None), tensor([0, 2]))
    """
    if rows[-1] == len(rows) - 1:
        return slice(0, len(rows))
    # Moved once, and without waiting for the device; indexing would move it for every table.
    return torch.tensor(rows).to(device, non_blocking=True)
