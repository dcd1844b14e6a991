"""What a run puts on record: about itself at the start, and about every round."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aequa_lightning.engine.processes.machine import describe_machine
from aequa_lightning.engine.rounds import Aggregate, ParticipantReport
from aequa_lightning.run_folder.events import append_metrics
from aequa_lightning.version import __version__

if TYPE_CHECKING:
    from aequa_lightning.engine.run import Collaboration


def describe_run(run: Collaboration) -> dict[str, Any]:
    """Return what a reader of the record must know about the run."""
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
            "class_counts": data.class_counts().tolist(),
            "validation": len(data.validation()),
            "test": len(data.test()),
        },
        "model": {
            "backbone": run.classifier.hparams["backbone"],
            "parameters": run.parameters.numel(),
            "widths": list(network.widths),
        },
        "stacking": vars(run.stacking),
        "mechanism": run.plan.mechanism,
        "privacy": run.private and run.private.describe(),
        "max_rounds": run.plan.max_rounds,
        "adversaries": [adversary.describe() for adversary in run.plan.adversaries],
    }


def describe_round(run: Collaboration, reports: Mapping[int, ParticipantReport], average: Aggregate) -> dict[str, Any]:
    """Return the event of a round, before its evaluation.

    Args:
        run: The run, at the end of the round.
        reports: On everybody who sent an update, by index, ascending.
        average: What the updates came to.
    """
    spent = {} if run.private is None else {"epsilon": run.private.epsilon(run.round)}
    names, weights = run.data.names, average.weights
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
        "left_out": [names[index] for index in average.left_out],
        "lost": [names[index] for index in run.cohort.dropped],
        "cut": [names[index] for index in reports if run.work(index) != run.plan.work],
        # Each participant receives what it holds and sends an update of the same size.
        "bytes_sent": 2
        * run.parameters.element_size()
        * sum(count * run.masks.count(width) for width, count in held.items()),
    }


def write_round(run: Collaboration, record: dict[str, Any]) -> None:
    """Put a round on record: event, table, loggers, and a warning for every update that was refused.

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
    append_metrics(run.plan.run_dir / "metrics.csv", record)
    if record["rejected"]:
        warnings.warn(
            f"Round {run.round}: the updates of {', '.join(record['rejected'])} are not finite or exploded and "
            "were left out of the average; lower the learning rate or look at their data.",
            stacklevel=2,
        )
