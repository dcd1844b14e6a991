"""Events of a run: its description at the start of a session, and one event for each round."""

import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aequa_lightning.engine.processes.machine import describe_machine
from aequa_lightning.engine.round_results import Aggregate, ParticipantReport
from aequa_lightning.engine.run import Run
from aequa_lightning.modules.score import describe_score
from aequa_lightning.run_folder.events import append_metrics
from aequa_lightning.version import __version__


class Stopwatch:
    """Adds up seconds by phase; time outside of all phases is ``other``."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._phases: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time within the block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._phases[name] += time.perf_counter() - start

    def read(self) -> tuple[float, dict[str, float]]:
        """Return the seconds so far, in total and by phase."""
        total = time.perf_counter() - self._start
        return total, {**self._phases, "other": max(0.0, total - sum(self._phases.values()))}


def describe_run(run: Run) -> dict[str, Any]:
    """Return the event that begins a session: versions, machine, data, model and settings."""
    network, data = run.classifier.network, run.data
    return {
        "round": run.round,
        "version": __version__,
        "processes": run.topology.processes,
        "replicas": run.topology.replicas,
        "device": str(run.topology.device),
        "machine": describe_machine(run.topology.device),
        "data": {
            **data.describe(),
            "participants": list(data.names),
            "samples": run.samples,
            "class_counts": data.class_counts().tolist() if run.classifier.has_classes else [],
            "validation": len(data.validation()),
            "test": len(data.test()),
        },
        "score": describe_score(run.classifier.scorer),
        "model": {
            "backbone": run.classifier.hparams["backbone"],
            "parameters": run.parameters.numel(),
            "widths": list(network.widths),
        },
        "stacking": vars(run.stacking),
        "mechanism": repr(run.config.mechanism),
        "privacy": run.private_average and run.private_average.describe(),
        "max_rounds": run.config.max_rounds,
        "unwritten": run.config.unwritten,
        "adversaries": [adversary.describe() for adversary in run.config.adversaries],
    }


def describe_round(
    run: Run, reports: Mapping[int, ParticipantReport], aggregate: Aggregate, accuracy: Mapping[float, float]
) -> dict[str, Any]:
    """Return the event of a round, without contributions and seconds, which are added later.

    Args:
        run: The run, at the end of the round.
        reports: Reports on all participants that sent an update, by index, ascending.
        aggregate: The average of the updates.
        accuracy: Validation accuracy in [0, 1] of every width of the grid.
    """
    spent = {} if run.private_average is None else {"epsilon": run.private_average.epsilon(run.round)}
    names, weights = run.data.names, aggregate.weights
    loss = sum(weight * reports[index].loss for index, weight in weights.items())
    held = Counter(run.widths[index] for index in reports)
    return {
        "round": run.round,
        **spent,
        "train_loss": loss / sum(weights.values()) if weights else None,
        "participants": [
            {
                "name": names[index],
                "samples": run.samples[index],
                "width": run.widths[index],
                "loss": None if report.refused else report.loss,
            }
            for index, report in reports.items()
        ],
        "rejected": [names[index] for index, report in reports.items() if report.refused],
        "excluded": [names[index] for index in aggregate.excluded],
        "dropped": [names[index] for index in run.cohort.dropped],
        "dropped_widths": [run.widths[index] for index in run.cohort.dropped],
        "cut": [names[index] for index in reports if run.work(index) != run.config.work],
        # Each participant receives the parameters of its width, and sends an update of the same size.
        "bytes_sent": 2
        * run.parameters.element_size()
        * sum(count * run.masks.count(width) for width, count in held.items()),
        "validation_accuracy": {f"{width:g}": value for width, value in accuracy.items()},
    }


def write_round(run: Run, record: dict[str, Any]) -> None:
    """Write a round to events, metrics table and loggers, and warn of refused updates.

    Args:
        run: The run, at the end of the round.
        record: The round's event.
    """
    run.record("round", **record)
    metrics = {f"validation_accuracy/{width}": value for width, value in record["validation_accuracy"].items()}
    if record["train_loss"] is not None:
        metrics["train_loss"] = record["train_loss"]
    if "epsilon" in record:
        metrics["epsilon"] = record["epsilon"]
    run.fabric.log_dict({"round": run.round, **metrics}, step=run.round)
    if not run.is_global_zero:
        return
    append_metrics(run.config.run_dir / "metrics.csv", record)
    if record["rejected"]:
        warnings.warn(
            f"Round {run.round}: the updates of {', '.join(record['rejected'])} are not finite or exploded and "
            "were left out of the average; lower the learning rate or look at their data.",
            stacklevel=2,
        )
