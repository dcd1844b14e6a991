"""Standalone training: before the rounds, each participant trains alone on its own data at full width."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from aequa_lightning.contributions.label_check import guessing_accuracy
from aequa_lightning.engine.callback import Callbacks
from aequa_lightning.engine.evaluation import AtWidth, input_batches, outputs_of, score_of
from aequa_lightning.engine.processes.assignment import assign
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.standalone_results import StandaloneProgress, StandaloneResult, StandaloneStore
from aequa_lightning.run_folder.events import read_events


def train_standalone(run: Run, callbacks: Callbacks) -> bool:
    """Train every participant that has no standalone result yet; a collective operation, shared by all processes.

    Args:
        run: The run.
        callbacks: Called after each participant.

    Returns:
        False when asked to stop.
    """
    if run.standalone is None:
        return True
    missing: list[int] = run.fabric.broadcast(run.standalone.missing())
    hosted = assign([run.samples[index] for index in missing], run.topology.groups)
    earlier = run.data.participants - len(missing)
    if missing:
        run.show("each alone", earlier, run.data.participants)
    # All groups take as many turns as the busiest one, because asking whether to stop is collective.
    for turn in range(max(map(len, hosted))):
        own = hosted[run.topology.group]
        if turn < len(own):
            index = missing[own[turn]]
            with run.status.at("training alone", **run.status_fields(index)):
                result = _train_one(run, run.standalone, index)
                if result is not None:
                    if run.topology.replica == 0:
                        run.standalone.save(result)
                    callbacks.call("on_standalone_end", run, index)
        if run.is_stopping():
            return False
        if missing:
            done = earlier + sum(min(turn + 1, len(places)) for places in hosted)
            run.show("each alone", done, run.data.participants)
    if run.is_global_zero:
        record_results(run, run.standalone)
    return True


def record_results(run: Run, store: StandaloneStore, *, known: Sequence[int] | None = None) -> None:
    """Append an event for each result that the run's events do not hold yet.

    Args:
        run: The run.
        store: The results.
        known: Participants that have one; None: all.
    """
    events = read_events(run.config.run_dir / "events.jsonl")
    recorded = {event["participant"]: event for event in events if event["event"] == "standalone"}
    for result in store.all if known is None else map(store.load, known):
        if not vars(result).items() <= recorded.get(result.participant, {}).items():
            run.record("standalone", **vars(result))


def _train_one(run: Run, store: StandaloneStore, index: int) -> StandaloneResult | None:
    """Train one participant alone for all rounds, each with the optimizer options that the schedule has for it.

    Returns:
        The result; None when asked to stop between two rounds, with the progress saved.
    """
    start, untrained = time.perf_counter(), StandaloneProgress(0, run.initial, {}, 0.0)
    done = store.load_progress(index) or untrained
    # Another run that shares the folder may have written the file after one replica had read it.
    if run.topology.mean_over_replicas(torch.tensor(float(done.rounds), device=run.topology.device)) != done.rounds:
        done = untrained
    # The elapsed time includes the time before a resume.
    start -= done.seconds
    parameters, state = done.parameters, done.optimizer_state
    for number in range(done.rounds, run.config.max_rounds):
        with run.local.with_options(run.schedule[number]):
            run.local.train(
                parameters,
                run.participant(index),
                work=run.config.work,
                keys=("standalone", index, "round", number + 1),
                grid=(1.0,),
                optimizer_state=state,
            )
        parameters, state = run.local.parameters, run.local.optimizer_state()
        if number + 1 < run.config.max_rounds and run.topology.any_replica(run.stop.received is not None):
            if run.topology.replica == 0:
                seconds = time.perf_counter() - start
                store.save_progress(index, StandaloneProgress(number + 1, parameters, state, seconds))
            return None
    module, network, device = run.classifier, run.classifier.network, run.topology.device
    if network.has_statistics:
        # Without a server the norm statistics come from the participant's own data.
        network.recalibrate(input_batches(module, run.data.participant(index), device), [1.0])
    return measure_alone(run, index, seconds=time.perf_counter() - start)


def measure_alone(run: Run, index: int, *, seconds: float) -> StandaloneResult:
    """Return the result of a participant whose network, trained alone, is in the model.

    Args:
        run: The run.
        index: The participant.
        seconds: Time that the training took.
    """
    module, device = run.classifier, run.topology.device
    full = AtWidth(module.network, 1.0)
    pairs: Iterable[tuple[Any, Any]] = outputs_of(module, full, run.data.validation(), device=device)
    right = guessing = None
    if module.has_classes:
        pairs = list(pairs)
        classes = [(outputs.argmax(-1), module.targets(batch)) for outputs, batch in pairs]
        predicted, targets = (torch.cat(each) for each in zip(*classes, strict=True))
        right, guessing = float((predicted == targets).double().mean()), guessing_accuracy(predicted, targets)
    return StandaloneResult(
        participant=run.data.names[index],
        samples=run.samples[index],
        validation_accuracy=module.scorer.measure(pairs).value,
        test_accuracy=score_of(module, full, run.data.test(), device=device).value,
        class_accuracy=right,
        guessing_accuracy=guessing,
        seconds=seconds,
    )
