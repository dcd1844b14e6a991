"""What a run puts on record: about itself at the start, and about every round."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aequa_lightning import __version__
from aequa_lightning.collaboration.machine import describe_machine
from aequa_lightning.events import append_metrics

if TYPE_CHECKING:
    from aequa_lightning.collaboration.engine import Collaboration


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
    }


def describe_round(
    run: Collaboration,
    losses: Mapping[int, float],
    weights: Mapping[int, float],
    *,
    refused: Sequence[int],
    left_out: Sequence[int],
    lost: Sequence[int],
) -> dict[str, Any]:
    """Return the event of a round, before its evaluation.

    Args:
        run: The run, at the end of the round.
        losses: Mean training loss of everybody who reported, by index, ascending.
        weights: Weight of everybody whose update entered the average, by index.
        refused: Those whose update was refused.
        left_out: Those whose update could be averaged but was not to be.
        lost: Those who were chosen but did not report.
    """
    spent = {} if run.private is None else {"epsilon": run.private.epsilon(run.round)}
    data, total = run.data, sum(weights.values())
    held = Counter(run.widths[index] for index in losses)
    return {
        "round": run.round,
        **spent,
        "train_loss": sum(weight * losses[index] for index, weight in weights.items()) / total if weights else None,
        "participants": [
            {
                "name": data.names[index],
                "samples": run.samples[index],
                "width": run.widths[index],
                "loss": None if index in refused else loss,
            }
            for index, loss in losses.items()
        ],
        "rejected": [data.names[index] for index in refused],
        "left_out": [data.names[index] for index in left_out],
        "lost": [data.names[index] for index in lost],
        "cut": [data.names[index] for index in losses if run.work(index) != run.plan.work],
        # Each participant receives what it holds and sends an update of the same size.
        "bytes_sent": 2
        * run.parameters.element_size()
        * sum(count * run.holdings.count(width) for width, count in held.items()),
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
