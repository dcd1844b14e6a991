"""How many participants are stacked: as configured, or by a short measurement before the first round."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from aequa_lightning.engine.local.corrections import NoCorrection
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.run import Run, Stacking
from aequa_lightning.engine.stacking.schedule import Job
from aequa_lightning.engine.stacking.trainer import StackedTrainer, form_stacks
from aequa_lightning.errors import InputError
from aequa_lightning.modules.slimmable_module import SlimmableModule
from aequa_lightning.run_folder.events import Event

# Larger stacks are no faster: their time is spent on arithmetic.
MAX_STACK_SIZE = 64
# Each size that is tried is smaller by this factor: small stacks may fit into the processor's cache.
SIZE_STEP = 3
# Least number of stacks of a round where it has enough participants, so that one and two processes have the same.
MIN_STACKS = 2
# Least speed-up of a stack: less is within the error of the measurement.
MIN_SPEED_UP = 1.05
# Longest step of a network that is small enough for stacks.
MAX_STEP_SECONDS = 0.02
# Steps of its measurement.
FIRST_TRIAL_STEPS = 3
# Time of a participant's trial, which includes the time to form a stack.
TRIAL_SECONDS = 0.08
# Most participants that are timed alone for comparison.
MAX_TRIALS_ALONE = 8

# Elementwise optimizers, which treat stacked parameters as they treat those of one network.
ELEMENTWISE = tuple(
    getattr(torch.optim, name)
    for name in ("SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "ASGD", "Rprop")
)


def decide_stacking(run: Run, events: Sequence[Event]) -> Stacking:
    """Decide how a run stacks its participants; a collective operation.

    Args:
        run: The run, before its first training.
        events: The events of an interrupted session.

    Returns:
        The same in every process.

    Raises:
        InputError: The configuration asks for stacks, but they are impossible.
    """
    asked = run.config.stacking
    if asked in ("off", 1):
        return Stacking(1, "asked for")
    reason = reason_against(run)
    if asked == "auto" and reason is not None:
        return Stacking(1, reason)
    if asked == "auto":
        # Measured once in a run, because another size of stacks rounds differently.
        started = next((event for event in events if event["event"] == "start"), None)
        if run.round > 0:
            return run.stacking
        if started is not None:
            return Stacking(**started["stacking"])
    players = run.config.participants_per_round or run.data.participants
    if asked == "auto":
        largest = min(MAX_STACK_SIZE, -(-players // max(MIN_STACKS, run.topology.groups)))
        sizes = sizes_to_try(largest)
    else:
        largest = int(asked)
        sizes = [largest]
    if not sizes:
        reason = "a round has too few participants"
    alone, stacked = math.inf, [math.inf]
    if reason is None:
        with run.status.at("trying stacks"):
            alone, stacked, reason = _measure(run, sizes)
    if asked != "auto":
        if reason is not None:
            raise InputError(f"trainer.stacking={asked} is not possible here: {reason}; set it to off.")
        return Stacking(largest, "asked for")
    if reason is not None:
        return Stacking(1, reason)
    seconds, size = min(zip(stacked, sizes, strict=True))
    sentence = f"a participant's step takes {1e3 * alone:.3g} ms alone and {1e3 * seconds:.3g} ms in a stack of {size}"
    return Stacking(size if alone > MIN_SPEED_UP * seconds else 1, sentence)


def sizes_to_try(largest: int) -> list[int]:
    """Return the sizes of stacks from the largest that a round can have down to two.

    Example:
        >>> sizes_to_try(50), sizes_to_try(5), sizes_to_try(1)
        ([50, 16, 5, 2], [5, 2], [])
    """
    sizes = []
    while largest > 1:
        sizes.append(largest)
        largest = max(2, largest // SIZE_STEP) if largest > 2 else 1
    return sizes


def reason_against(run: Run) -> str | None:
    """Return why the participants of a run cannot be stacked; None when no reason is known."""
    classifier, optimizer = run.classifier, run.local.optimizer.optimizer
    kind = type(classifier)
    trainable = (parameter for parameter in classifier.network.full.parameters() if parameter.requires_grad)
    reasons = {
        "replicas share every participant": run.topology.replicas > 1,
        "losses are scaled in 16-mixed": getattr(run.fabric.strategy.precision, "scaler", None) is not None,
        "networks are compiled": run.config.compile,
        "gradients are corrected": type(run.config.correction) is not NoCorrection,
        "participants keep their state": run.config.keeps_participant_state,
        "the network has dropout": any(
            isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 and part.training
            for part in classifier.modules()
        ),
        f"{kind.__name__} has a step of its own": (
            kind.forward is not SlimmableModule.forward or kind.sandwich is not SlimmableModule.sandwich
        ),
        f"{kind.__name__} takes inputs of its own from a batch": kind.inputs is not SlimmableModule.inputs,
        "the model has parameters besides those of its full network": (
            sum(parameter.numel() for parameter in trainable) != run.parameters.numel()
        ),
        f"{type(optimizer).__name__} is not known to treat every number by itself": type(optimizer) not in ELEMENTWISE,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _measure(run: Run, sizes: Sequence[int]) -> tuple[float, list[float], str | None]:
    """Return the seconds of a participant's step alone and in a stack of each size, and why stacks are impossible.

    The stacks consist of the run's own participants. All processes measure at once, as they will train, because
    processes of one machine share its caches and memory; the seconds are their mean.
    """
    device = run.topology.device

    def members(size: int) -> list[int]:
        return max(form_stacks(range(run.data.participants), run.widths, run.samples, size), key=len)

    def train_alone(indices: Sequence[int], work: LocalWork) -> None:
        for index in indices:
            run.local.train(run.parameters, run.participant(index), work=work, keys=("trial", index), grid=run.grid)

    def train_stack(indices: Sequence[int], work: LocalWork) -> None:
        jobs = [Job(*run.participant(index), work, keys=("trial", index)) for index in indices]
        StackedTrainer(run.local).train(run.parameters.expand(len(jobs), -1), jobs, grid=run.grid)

    def seconds(train: Callable[[Sequence[int], LocalWork], None], indices: Sequence[int], steps: int) -> float:
        work = replace(run.config.work, steps=steps)
        return _least_seconds(partial(train, indices, work), device) / (steps * len(indices))

    together, candidates = run.topology.mean_over_processes, members(max(sizes))
    first = together(seconds(train_alone, candidates[:1], FIRST_TRIAL_STEPS))
    if run.config.stacking == "auto" and first > MAX_STEP_SECONDS:
        return first, [first], f"a step takes {1e3 * first:.3g} ms, and stacks pay for small networks"
    in_a_round = run.config.work.count(run.samples[candidates[0]], run.data.batch_size)
    steps = max(1, min(in_a_round, int(TRIAL_SECONDS / first)))
    alone = together(seconds(train_alone, candidates[:: -(-len(candidates) // MAX_TRIALS_ALONE)], steps))
    stacked, refusal = [], "it fails in another process"
    for size in sizes:
        own = math.inf
        with warnings.catch_warnings():
            # vmap warns of operations that it computes in a loop; their time is measured here.
            warnings.simplefilter("ignore")
            try:
                own = seconds(train_stack, members(size), steps)
            except Exception as error:
                # A user's network may raise anything. If memory is short in one process only, the others must not wait.
                refusal = next(iter(str(error).splitlines()), type(error).__name__)
        stacked.append(together(own))
    if min(stacked) == math.inf:
        return alone, stacked, f"a stack cannot be computed: {refusal}"
    return alone, stacked, None


def _least_seconds(work: Callable[[], None], device: torch.device) -> float:
    """Return the shorter time of two; on the CPU it is process time, which other processes do not lengthen."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds = []
    for _ in range(2):
        start = clock()
        work()
        seconds.append(clock() - start)
    return min(seconds)
