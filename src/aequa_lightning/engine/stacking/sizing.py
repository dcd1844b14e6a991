"""How many participants are stacked: asked for, or found out by a short measurement before the first round."""

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
from aequa_lightning.modules.classifier import SlimmableClassifier
from aequa_lightning.run_folder.events import Event

# A larger stack gains nothing more: it is arithmetic by then.
LARGEST = 64
# Smaller ones are tried too, each by this factor: what they compute may fit into the processor's cache.
SMALLER = 3
# Stacks that a round has at least where it can, so that one process and two have the same.
STACKS = 2
# What a stack must gain to be worth while: less is within the error of the measurement.
WORTH = 1.05
# What a step may take for a network to count as small.
SMALL_SECONDS = 0.02
# Steps by which that is found out.
FIRST_STEPS = 3
# How much of a participant's work is tried. As much as possible: a stack takes time to be formed, too.
TRIED_SECONDS = 0.08
# Participants of the stack that are tried alone as well, at most.
TRIED_ALONE = 8

# Optimizers that treat every number by itself: on stacked parameters they do what they do on single ones.
ELEMENTWISE = tuple(
    getattr(torch.optim, name)
    for name in ("SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "ASGD", "Rprop")
)


def decide_stacking(run: Run, events: Sequence[Event]) -> Stacking:
    """Decide how a run stacks its participants; a collective operation.

    Args:
        run: The run, before its first training.
        events: What an interrupted session has recorded.

    Returns:
        The same in every process.

    Raises:
        InputError: Stacks are asked for, but cannot be had.
    """
    asked = run.plan.stacking
    if asked in ("off", 1):
        return Stacking(1, "asked for")
    hindrance = obstacle(run)
    if asked == "auto" and hindrance is not None:
        return Stacking(1, hindrance)
    if asked == "auto":
        # Measured once in a run: another size of stacks would round differently.
        started = next((event for event in events if event["event"] == "start"), None)
        if run.round > 0:
            return run.stacking
        if started is not None:
            return Stacking(**started["stacking"])
    players = run.plan.participants_per_round or run.data.participants
    largest = min(LARGEST, -(-players // max(STACKS, run.topology.groups))) if asked == "auto" else int(asked)
    sizes = sizes_to_try(largest) if asked == "auto" else [largest]
    if not sizes:
        hindrance = "a round has too few participants"
    alone, stacked = math.inf, [math.inf]
    if hindrance is None:
        with run.status.at("trying stacks"):
            alone, stacked, hindrance = _try(run, sizes)
    if asked != "auto":
        if hindrance is not None:
            raise InputError(f"trainer.stacking={asked} is not possible here: {hindrance}; set it to off.")
        return Stacking(largest, "asked for")
    if hindrance is not None:
        return Stacking(1, hindrance)
    seconds, size = min(zip(stacked, sizes, strict=True))
    sentence = f"a participant's step takes {1e3 * alone:.3g} ms alone and {1e3 * seconds:.3g} ms in a stack of {size}"
    return Stacking(size if alone > WORTH * seconds else 1, sentence)


def sizes_to_try(largest: int) -> list[int]:
    """Return the sizes of stacks from the largest that a round can have down to two.

    Example:
        >>> sizes_to_try(50), sizes_to_try(5), sizes_to_try(1)
        ([50, 16, 5, 2], [5, 2], [])
    """
    sizes = []
    while largest > 1:
        sizes.append(largest)
        largest = max(2, largest // SMALLER) if largest > 2 else 1
    return sizes


def obstacle(run: Run) -> str | None:
    """Return why the participants of a run cannot be stacked; None where nothing is known to hinder it."""
    classifier, optimizer = run.classifier, run.local.optimizer.optimizer
    kind = type(classifier)
    trainable = (parameter for parameter in classifier.network.full.parameters() if parameter.requires_grad)
    hindrances = {
        "replicas share every participant": run.topology.replicas > 1,
        "losses are scaled in 16-mixed": getattr(run.fabric.strategy.precision, "scaler", None) is not None,
        "networks are compiled": run.plan.compile,
        "gradients are corrected": type(run.plan.correction) is not NoCorrection,
        "participants keep their state": run.plan.participants_remember,
        "the network has dropout": any(
            isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0 and part.training
            for part in classifier.modules()
        ),
        f"{kind.__name__} has a step of its own": (
            kind.forward is not SlimmableClassifier.forward or kind.sandwich is not SlimmableClassifier.sandwich
        ),
        "the model has parameters besides those of its full network": (
            sum(parameter.numel() for parameter in trainable) != run.parameters.numel()
        ),
        f"{type(optimizer).__name__} is not known to treat every number by itself": type(optimizer) not in ELEMENTWISE,
    }
    return next((reason for reason, holds in hindrances.items() if holds), None)


def _try(run: Run, sizes: Sequence[int]) -> tuple[float, list[float], str | None]:
    """Return the seconds of a participant's step alone and in a stack of each size, and why there can be no stack.

    The stacks are ones that could be, with participants as unequal as they are. All processes try at once, as they will
    train, because those of one machine share its caches and its memory; the seconds are their mean.
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
        work = replace(run.plan.work, steps=steps)
        return _least_seconds(partial(train, indices, work), device) / (steps * len(indices))

    together, candidates = run.topology.mean_over_processes, members(max(sizes))
    first = together(seconds(train_alone, candidates[:1], FIRST_STEPS))
    if run.plan.stacking == "auto" and first > SMALL_SECONDS:
        return first, [first], f"a step takes {1e3 * first:.3g} ms, and stacks pay for small networks"
    in_a_round = run.plan.work.count(run.samples[candidates[0]], run.data.batch_size)
    steps = max(1, min(in_a_round, int(TRIED_SECONDS / first)))
    alone = together(seconds(train_alone, candidates[:: -(-len(candidates) // TRIED_ALONE)], steps))
    stacked, refusal = [], "it fails in another process"
    for size in sizes:
        own = math.inf
        with warnings.catch_warnings():
            # Operations that torch.func.vmap does in a loop cost time, and that is measured here.
            warnings.simplefilter("ignore")
            try:
                own = seconds(train_stack, members(size), steps)
            except Exception as error:
                # Whatever a network of one's own raises; or for want of memory in one process alone, and others wait.
                refusal = next(iter(str(error).splitlines()), type(error).__name__)
        stacked.append(together(own))
    if min(stacked) == math.inf:
        return alone, stacked, f"a stack cannot be computed: {refusal}"
    return alone, stacked, None


def _least_seconds(work: Callable[[], None], device: torch.device) -> float:
    """Return the lesser time of two; on the CPU the processor's, which neighbours on the machine do not lengthen."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds = []
    for _ in range(2):
        start = clock()
        work()
        seconds.append(clock() - start)
    return min(seconds)
