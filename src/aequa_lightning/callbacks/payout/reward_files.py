"""The files of a payout: contributions, allocation, and each participant's network with its manifest."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from aequa_lightning.callbacks.payout.measured_curve import MeasuredCurve
from aequa_lightning.engine.run import Run
from aequa_lightning.rewards.allocation.allocate import Allocation
from aequa_lightning.rewards.allocation.fairness import gain_figures, pearson
from aequa_lightning.rewards.allocation.frontier import Frontier
from aequa_lightning.rewards.allocation.uncertainty import Resampled
from aequa_lightning.rewards.files.checkpoint import export_program, save_reward
from aequa_lightning.rewards.files.held import best_held, held_figures
from aequa_lightning.rewards.files.manifest import remove_manifest
from aequa_lightning.run_folder.csv_files import csv_text
from aequa_lightning.run_folder.events import latest_rounds, read_events
from aequa_lightning.run_folder.files import sha256, write_atomically

# Level of the intervals of resampled figures.
LEVEL = 0.9

Layers = Mapping[float, dict[str, float]]
Held = Sequence[Mapping[str, float] | None]


class RewardAccuracies(NamedTuple):
    """Accuracy in [0, 1] of each participant's network, (N,) each, on the validation and on the test part."""

    validation: Sequence[float]
    test: Sequence[float]


def write_rewards(run: Run, widths: Sequence[float], *, layers: Layers, export_programs: bool) -> RewardAccuracies:
    """Measure and write everybody's network, each process its part; a collective operation.

    Args:
        run: The run.
        widths: Width of each participant, (N,).
        layers: Of widths whose layers differ: the share of each layer, by its name.
        export_programs: Whether each network is written as a program besides the checkpoint.

    Returns:
        The accuracies of everybody's network, the same on all processes.
    """
    if run.is_global_zero:
        remove_manifest(run.config.run_dir / "rewards")
        for name in run.data.names:
            # A program or card of an earlier payout may hold more than is earned now.
            for ending in ("pt2", "md"):
                (run.config.run_dir / "rewards" / f"{name}.{ending}").unlink(missing_ok=True)
    # Nobody overwrites a file that a manifest still describes: whoever is killed leaves none.
    run.fabric.barrier()
    network, parts = run.classifier.network, (run.data.validation(), run.data.test())
    scores = torch.zeros(len(parts), len(widths), dtype=torch.float64)
    packages = _packages(run, widths)
    run.show("writing rewards", 0, len(packages))
    for place in range(run.topology.rank, len(packages), run.topology.processes):
        parameters, number, owners = packages[place]
        width = layers.get(number, number)
        with run.model_at(parameters):
            run.evaluator.calibrate(width)
            for row, part in enumerate(parts):
                scores[row, owners] = run.evaluator.score(width, part).value
            reward = network.extract(width).cpu()
        hyper_parameters = run.classifier.reward_hparams(number, layers.get(number))
        _write_network(run, reward, hyper_parameters, owners, export_programs=export_programs)
        done = min(place - run.topology.rank + run.topology.processes, len(packages))
        run.show("writing rewards", done, len(packages))
    # Whoever has everybody's scores knows that everybody's files are there.
    return RewardAccuracies(*run.topology.merge_over_processes(scores).tolist())


def _packages(run: Run, widths: Sequence[float]) -> list[tuple[Tensor, float, list[int]]]:
    """Return the different networks that are handed out: parameters, width and who receives them."""
    if run.models is not None:
        return [(run.models[index], width, [index]) for index, width in enumerate(widths)]
    return [
        (run.parameters, width, [index for index, given in enumerate(widths) if given == width])
        for width in sorted(set(widths))
    ]


def _write_network(
    run: Run,
    network: nn.Module,
    hyper_parameters: Mapping[str, Any],
    owners: Sequence[int],
    *,
    export_programs: bool,
) -> None:
    folder, data = run.config.run_dir / "rewards", run.data
    program = export_program(network, run.classifier.network.example_input) if export_programs else None
    for index in owners:
        name = data.names[index]
        save_reward(
            folder / f"{name}.ckpt",
            network,
            hyper_parameters=hyper_parameters,
            about={"participant": name, "mean": data.mean, "std": data.std, **data.owner_facts(index)},
        )
        if program is not None:
            write_atomically(folder / f"{name}.pt2", program)


def read_held(run: Run) -> Held:
    """Return the best model that each participant received in the rounds, (N,), from the run's record.

    None where nothing is known: the record lacks a round, or each participant has its own model, and only rewards are
    measured.
    """
    rounds = latest_rounds(read_events(run.events.path))
    best = {} if run.models is not None else best_held(rounds, last=run.round)
    return [best.get(name) for name in run.data.names]


def describe_rewards(
    run: Run,
    widths: Sequence[float],
    *,
    layers: Layers,
    accuracies: RewardAccuracies,
    held: Held,
    export_programs: bool,
) -> list[dict[str, Any]]:
    """Return the rows of ``rewards/manifest.json``, in order of participants.

    Args:
        run: The run, whose rewards all processes have written.
        widths: Width of each participant, (N,).
        layers: Of widths whose layers differ: the share of each layer, by its name.
        accuracies: The accuracies of everybody's network.
        held: The best model that each participant received in the rounds, (N,); None: not known.
        export_programs: Whether each network was written as a program besides the checkpoint.
    """
    folder = run.config.run_dir / "rewards"
    rows = [
        {
            "file": f"{name}.ckpt",
            "participant": name,
            **_width(width, layers),
            "validation_accuracy": validation_accuracy,
            "test_accuracy": test_accuracy,
            "best_held": best,
            "bytes": (folder / f"{name}.ckpt").stat().st_size,
            "sha256": sha256(folder / f"{name}.ckpt"),
        }
        for name, width, validation_accuracy, test_accuracy, best in zip(
            run.data.names, widths, accuracies.validation, accuracies.test, held, strict=True
        )
    ]
    if export_programs:
        for name, row in zip(run.data.names, rows, strict=True):
            row |= {"program": f"{name}.pt2", "program_sha256": sha256(folder / f"{name}.pt2")}
    return rows


def describe_allocation(
    number: int,
    names: Sequence[str],
    contributions: Sequence[float],
    allocation: Allocation,
    measured: MeasuredCurve,
    *,
    standalone: Sequence[float] | None,
    standalone_test: Sequence[float] | None,
    received_test: Sequence[float],
    held: Held,
) -> dict[str, Any]:
    """Return the content of ``allocation.json``; gains are over what each participant reaches alone.

    Args:
        number: The round after which was paid.
        names: The participants, N of them.
        contributions: What they were paid for, (N,).
        allocation: What they receive.
        measured: Validation accuracy of every measured width.
        standalone: Validation accuracy of each participant alone, (N,); None: not known, and nor are gains.
        standalone_test: Test accuracy of each participant alone, (N,); None: not known.
        received_test: Test accuracy of each reward, (N,).
        held: The best model that each participant received in the rounds, (N,); None: not known.
    """
    unknown = [None] * len(names)
    rows = zip(
        names,
        contributions,
        allocation.widths.tolist(),
        allocation.accuracies.tolist(),
        standalone or unknown,
        received_test,
        standalone_test or unknown,
        held,
        strict=True,
    )
    return {
        "round": number,
        "objective": allocation.objective,
        "slope": allocation.slope,
        "widths": allocation.curve.widths.tolist(),
        "accuracy_by_width": {repr(width): accuracy for width, accuracy in sorted(measured.accuracy.items())},
        "layers": {repr(width): measured.layers[width] for width in sorted(measured.accuracy.keys() & measured.layers)},
        "inversions": [
            {"width": width, "accuracy": accuracy, "reason": reason}
            for width, accuracy, reason in allocation.curve.inversions
        ],
        "participants": [
            {
                "name": name,
                "contribution": contribution,
                **_width(width, measured.layers),
                "accuracy": accuracy,
                "gain": None if alone is None else accuracy - alone,
                "standalone_test": alone_test,
                "test_accuracy": received,
                "best_held": best,
            }
            for name, contribution, width, accuracy, alone, received, alone_test, best in rows
        ],
        **gain_figures(standalone, allocation.accuracies),
        "held": held_figures(contributions, allocation.accuracies.tolist(), held, standalone=standalone),
        "pearson": allocation.pearson,
        "pearson_test": None if standalone_test is None else pearson(standalone_test, received_test),
        "certificate": allocation.certificate,
    }


def _width(width: float, layers: Layers) -> dict[str, Any]:
    return {"width": width, "layers": layers[width]} if width in layers else {"width": width}


def describe_uncertainty(drawn: Resampled | None, names: Sequence[str]) -> dict[str, Any] | None:
    """Return how far the figures depend on which samples the validation part holds, for ``allocation.json``.

    Args:
        drawn: Allocations of resampled validation parts; None where there are none.
        names: The participants, N of them.

    Returns:
        Intervals of MCG, CGS and Pearson (None where undefined), and of each width with the share of every width.
    """
    if drawn is None:
        return None
    low, high = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    return {
        "level": LEVEL,
        "repeats": len(drawn.mcg),
        **{figure: _interval(drawn, figure) for figure in ("mcg", "cgs", "pearson")},
        "participants": [
            {
                "name": name,
                # A width that was drawn, not one between two of them.
                "width": np.quantile(drawn.widths[:, index], [low, high], method="nearest").tolist(),
                "shares": {repr(width): share for width, share in drawn.width_shares(index).items()},
            }
            for index, name in enumerate(names)
        ],
    }


def _interval(drawn: Resampled, figure: str) -> list[float] | None:
    bounds = drawn.interval(figure, level=LEVEL)
    return None if np.isnan(bounds).any() else list(bounds)


def describe_frontier(front: Frontier, allocation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``frontier.json``: what could have been chosen, and what was.

    Args:
        front: Allocations of which none has both a higher mean gain and a lower spread.
        allocation: Content of ``allocation.json``.
    """
    rows = zip(front.mean_gains.tolist(), front.spreads.tolist(), front.widths.tolist(), strict=True)
    return {
        "chosen": {"mcg": allocation["mcg"], "cgs": allocation["cgs"]},
        "front": [{"mcg": mean, "cgs": spread, "widths": widths} for mean, spread, widths in rows],
    }


def write_contributions(run: Run, measures: Mapping[str, Sequence[float]], gates: Sequence[str] | None) -> None:
    """Write ``contributions.csv``: a row a participant, a column per measure, and what the gates caught it at.

    The column of what each reaches alone stays empty where nobody trained alone; without gates theirs is left out.
    """
    columns: dict[str, Sequence[Any]] = {"participant": run.data.names, "samples": run.samples}
    columns["standalone"] = measures.get("standalone", [None] * len(run.samples))
    columns |= {name: values for name, values in measures.items() if name != "standalone"}
    if gates is not None:
        columns["gates"] = gates
    text = csv_text(list(columns), zip(*columns.values(), strict=True))
    write_atomically(run.config.run_dir / "contributions.csv", text.encode())
