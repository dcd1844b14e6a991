"""Measures on planted participants: agreement with retrained Shapley values, rank and reward of each.

Usage: python -m benchmarks.planted [SEEDS [digits|fashion]]

Ten participants share the embedded digits, or as many samples of Fashion-MNIST: three riders without usable data (they
send nothing, noise as long as an honest update, or the last aggregate), one who labels class c as 9 - c, one with clean
data and one who sends a copy of its update, one who joins as two with half of its data each, the sole owner of class 9,
and one more with clean data, who in a second run sends its update ten times as long. Each run is measured twice at
once, without gates and with gates before the valuation; once more it is done with gates that also keep what they catch
out of the average.

The reference are exact Shapley values of balanced accuracy on the validation part when a small perceptron is trained
anew on the joint data of every coalition, for 20 epochs; riders bring no data, and whoever has none guesses. Pay is
the validation accuracy of the width that everybody receives: by Aequa's defaults for the accuracy alone, in proportion
to any other measure. The tables show means over the seeds, each with its own split, start and order; the last ones are
the first in brief.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from scipy import stats
from torch import Tensor, nn
from typing_extensions import override

from aequa_lightning.callbacks.assessment.measures import Assessment, Measures
from aequa_lightning.contributions import balanced_accuracy, shapley_values
from aequa_lightning.contributions.values import Coalitions
from aequa_lightning.data import CollaborativeData, DigitsData, FashionMNISTData
from aequa_lightning.data.partition import Partition, Samples
from aequa_lightning.engine.callback import Callbacks, CollaborationCallback, RoundResult
from aequa_lightning.engine.cohort import CohortTrainer
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.loop import Collaboration
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.aggregators import FedAvg
from aequa_lightning.mechanisms import Aequa
from aequa_lightning.modules.classifier import SlimmableClassifier

NAMES = ("zero", "random", "replay", "flipper", "clone", "cloned", "split-1", "split-2", "sole-owner", "honest")
RIDERS, FLIPPER, CLONE, CLONED, SOLE_OWNER, HONEST = range(3), 3, 4, 5, 8, 9
SIZES = (100, 100, 100, 120, 0, 120, 60, 60, 20, 120)
CLASSES, ROUNDS, LOCAL_EPOCHS, HIDDEN, RATE = 10, 10, 3, 32, 3e-3
FIXED = ("standalone", "data_share")
MEASURES = (
    *("cosine", "rffl", "class_cosine", "alignment", "cffl"),
    *("loo", "fedsv", "banzhaf", "beta_shapley", "gtg_shapley"),
)
GATES = {
    "off": Assessment(MEASURES, gates=False),
    "on": Assessment(MEASURES, exclude_flagged=False),
    "average": Assessment(MEASURES, exclude_flagged=True),
}


@dataclass(frozen=True)
class Planted(Partition):
    """Class 9 for its owner alone, the other classes at random, the cloned participant's samples twice."""

    @override
    def assign(self, samples: Samples, participants: int, seed: int, *, min_samples: int) -> list[Any]:
        order = np.random.default_rng(seed).permutation(len(samples.labels))
        nines, others = (order[samples.labels[order] == 9], order[samples.labels[order] != 9])
        parts = np.split(others, np.cumsum(SIZES))[: len(SIZES)]
        parts[SOLE_OWNER] = np.concatenate([parts[SOLE_OWNER], nines])
        parts[CLONE] = parts[CLONED]
        return [np.sort(part) for part in parts]


class Labels(CollaborativeData):
    """The labels of this benchmark: random ones for riders, 9 - c for the flipper."""

    @override
    def _add_noise(self) -> None:
        generator = torch.Generator().manual_seed(self.partition_seed)
        for rider in RIDERS:
            labels = self.participant(rider).tensors[1]
            labels.copy_(torch.randint(0, CLASSES, labels.shape, generator=generator))
        flipped = self.participant(FLIPPER).tensors[1]
        flipped.copy_(9 - flipped)


class PlantedDigits(Labels, DigitsData):
    """The embedded digits."""


class PlantedFashion(Labels, FashionMNISTData):
    """As many samples of Fashion-MNIST as there are digits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(train_samples=1440, test_samples=360, **kwargs)


DATA = {"digits": PlantedDigits, "fashion": PlantedFashion}


class PlantedCohort(CohortTrainer):
    """Participants that do not send what they trained.

    Args:
        run: The run.
        callbacks: Those of the run.
        assessments: One of them, which knows the last aggregate.
        scale: How many times as long as trained the last one's update is.
    """

    def __init__(self, run: Run, callbacks: Callbacks, assessments: "Assessments", scale: float) -> None:
        super().__init__(run, callbacks)
        self.assessments, self.seed, self.scale = assessments, run.config.seed, scale

    @override
    def train_one(self, number: int, index: int) -> tuple[float, Tensor]:
        loss, update = super().train_one(number, CLONED if index == CLONE else index)
        match NAMES[index]:
            case "zero":
                update = torch.zeros_like(update)
            case "random":
                noise = torch.randn(update.shape, generator=torch.Generator().manual_seed(1000 * self.seed + number))
                update = noise * (update.norm() / noise.norm())
            case "replay" if self.assessments.last_aggregate is not None:
                update = self.assessments.last_aggregate.float()
            case "honest":
                update = self.scale * update
        return loss, update


class Assessments(CollaborationCallback):
    """Measures every round with some gates and others, and keeps the aggregate for whoever replays it.

    Args:
        gates: Which of ``GATES``.
    """

    def __init__(self, gates: Sequence[str]) -> None:
        self.gates = gates
        self.last_aggregate: Tensor | None = None

    @override
    def setup(self, run: Run) -> None:
        self.measures = {name: Measures(run, GATES[name], paid_by="standalone") for name in self.gates}

    @override
    def on_round_start(self, run: Run) -> None:
        for measures in self.measures.values():
            measures.start_round(run)

    @override
    def on_updates(self, run: Run, accepted: Sequence[int], refused: Sequence[int]) -> Collection[int]:
        return {index for measures in self.measures.values() for index in measures.screen_round(run, accepted, refused)}

    @override
    def on_round_end(self, run: Run, result: RoundResult) -> None:
        for measures in self.measures.values():
            measures.end_round(run, result)
        self.last_aggregate = result.mean_update


def retrained_shapley(data: CollaborativeData, *, seed: int) -> np.ndarray:
    """Return the exact values when every coalition trains a network of its own; coalitions without data guess."""
    parts = [data.participant(index).tensors for index in range(len(NAMES))]
    inputs, targets = data.validation().tensors
    known: dict[tuple[int, ...], float] = {(): 1 / CLASSES}

    def train(members: tuple[int, ...]) -> float:
        pooled = [torch.cat([parts[index][column] for index in members]) for column in (0, 1)]
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(prod(data.input_shape), HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(20):
            for batch in torch.randperm(len(pooled[1])).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(pooled[0][batch]), pooled[1][batch]).backward()
                optimizer.step()
        with torch.no_grad():
            return balanced_accuracy(network(inputs), targets).item()

    def utility(coalitions: Coalitions) -> np.ndarray:
        keys = [tuple(index for index in np.flatnonzero(row).tolist() if index not in RIDERS) for row in coalitions]
        for members in set(keys) - known.keys():
            known[members] = train(members)
        return np.array([known[members] for members in keys])

    return shapley_values(utility, len(NAMES)).values


Column = dict[tuple[str, str], np.ndarray]


def run_once(
    data: CollaborativeData, gates: Sequence[str], *, seed: int, scale: float, alone: Path
) -> tuple[Column, Column, list[str]]:
    """Return values and pay by measure and gates, and what the last gates caught everybody at."""
    torch.manual_seed(seed)
    model = SlimmableClassifier(
        CLASSES,
        data.input_shape,
        backbone="mlp",
        backbone_options={"hidden": (HIDDEN,)},
        widths=[1.0, 0.75, 0.5, 0.25, 0.125],
        num_random_widths=1,
        seed=seed,
    )
    model.configure_optimizers = lambda: torch.optim.Adam(model.parameters(), lr=RATE)
    assessments = Assessments(gates)
    values, pay = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(
            max_rounds=ROUNDS,
            work=LocalWork(LOCAL_EPOCHS),
            participants_per_round=None,
            aggregator=FedAvg(),
            checkpoint_every=ROUNDS,
            seed=seed,
            run_dir=Path(folder),
            mechanism=Aequa(),
            standalone_dir=alone,
        )
        fabric = Fabric(accelerator="cpu", devices=1)
        collaboration = Collaboration(fabric, model, data, config=config, callbacks=[assessments])
        run = collaboration.run
        collaboration.cohort_trainer = PlantedCohort(run, collaboration.callbacks, assessments, scale)
        collaboration.fit()
        curve = run.evaluator.values(model.network.distinct_widths(), data.validation())
        for kind, measures in assessments.measures.items():
            for name, column in measures.values(run).items():
                key = (name, "-" if name in FIXED else kind)
                standalone = measures.values(run)["standalone"]
                objective = "cv" if name == "standalone" else "proportional"
                mechanism = Aequa(contribution=name, objective=objective)
                allocation = mechanism.allocate(column, curve, standalone=standalone, held=run.widths)
                values[key], pay[key] = np.array(column), allocation.accuracies
    return values, pay, measures.remarks()


def main(seeds: int, kind: str) -> None:
    torch.set_num_threads(1)
    start = time.perf_counter()
    rows: dict[float, dict[tuple[str, str], list[dict[str, Any]]]] = {}
    caught: dict[float, list[str]] = {}
    for seed in range(seeds):
        data = DATA[kind](partition=Planted(), partition_seed=seed)
        data.names = NAMES
        data.setup()
        truth = retrained_shapley(data, seed=seed)
        with tempfile.TemporaryDirectory() as alone:
            for scale in (1.0, 10.0):
                table = rows.setdefault(scale, defaultdict(list))
                table["retrained Shapley", "-"].append(figures(truth, truth, truth))
                for gates in (("average",), ("off", "on")):
                    values, pay, remarks = run_once(data, gates, seed=seed, scale=scale, alone=Path(alone))
                    # What needs no round is in both runs, paid by the curve of the second.
                    for key, column in values.items():
                        if key[0] not in FIXED or "on" in gates:
                            table[key].append(figures(column, pay[key], truth))
                caught.setdefault(scale, remarks)
                print(f"seed {seed}, scale {scale:g}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    for scale, table in rows.items():
        print(f"\n{kind}, {seeds} seeds, {ROUNDS} rounds; the last sends its update {scale:g} times as long.")
        print("Per participant: mean rank of 10 (1 is best) / mean pay in %; first row: points of balanced accuracy.\n")
        print(f"| measure | gates | Pearson (least) | Spearman | {' | '.join(NAMES)} |")
        print("|---" * (4 + len(NAMES)) + "|")
        for (name, gates), runs in table.items():
            rank, received = (np.mean([one[figure] for one in runs], axis=0) for figure in ("rank", "pay"))
            cells = " | ".join(f"{a:.1f} / {100 * b:.0f}" for a, b in zip(rank, received, strict=True))
            spearman = np.mean([one["spearman"] for one in runs])
            print(f"| {name} | {gates} | {told_briefly(runs)} | {spearman:.2f} | {cells} |")
        told = [f"{who}: {remark}" for who, remark in zip(NAMES, caught[scale], strict=True) if remark]
        print(f"\nCaught by the gates, seed 0: {' | '.join(told)}")
    for scale, table in rows.items():
        print(f"\n{kind}, {seeds} seeds, the last one's update {scale:g} times as long: Pearson (least).\n")
        print(f"| measure | {' | '.join(GATES)} |")
        print("|---" * (1 + len(GATES)) + "|")
        for name in (*FIXED, *MEASURES):
            cells = [told_briefly(table[name, "-" if name in FIXED else gates]) for gates in GATES]
            print(f"| {name} | {' | '.join(cells)} |")
    print(f"\n{time.perf_counter() - start:.0f} s")


def told_briefly(runs: Sequence[dict[str, Any]]) -> str:
    """Return how well a measure agrees with the reference, on average and at worst."""
    pearsons = [one["pearson"] for one in runs]
    return f"{np.mean(pearsons):.2f} ({min(pearsons):.2f})"


def figures(column: np.ndarray, pay: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Return how a measure stands to the reference, everybody's rank and pay."""
    return {
        "pearson": stats.pearsonr(column, truth).statistic,
        "spearman": stats.spearmanr(column, truth).statistic,
        "rank": stats.rankdata(-column),
        "pay": pay,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2] if len(sys.argv) > 2 else "digits")
