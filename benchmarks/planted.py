"""Which measure sees through planted participants: agreement with retrained Shapley values, rank and pay of each.

Usage: python -m benchmarks.planted [SEEDS]

Ten participants share the embedded digits: three riders without usable data (they send nothing, noise as long as an
honest update, or the last aggregate), one who labels class c as 9 - c, one with clean data and one who sends a copy of
its update, one who joins as two with half of its data each, the sole owner of class 9, and one more with clean data,
who in a second run sends its update ten times as long. Every run is measured twice at once, with the gates and without.

The reference are exact Shapley values of balanced accuracy on the validation part when a small perceptron is trained
anew on the joint data of every coalition, for 20 epochs; riders bring no data, and whoever has none guesses. Pay is
the validation accuracy of the width that everybody receives: by Aequa's defaults for the accuracy alone, in proportion
to any other measure. The table shows means over the seeds, each with its own split, start and order.
"""

import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from scipy import stats
from torch import Tensor, nn
from typing_extensions import override

from aequa_lightning.callbacks.measures import Assessment, Measures
from aequa_lightning.collaboration.aggregators import FedAvg
from aequa_lightning.collaboration.engine import Collaboration
from aequa_lightning.collaboration.hooks import CollaborationCallback, RoundResult
from aequa_lightning.collaboration.local import LocalWork
from aequa_lightning.collaboration.plan import Plan
from aequa_lightning.contributions import balanced_accuracy, shapley_values
from aequa_lightning.contributions.values import Coalitions
from aequa_lightning.data import DigitsData
from aequa_lightning.data.partition import Partition, Samples
from aequa_lightning.mechanisms import Aequa
from aequa_lightning.training import SlimmableClassifier

NAMES = ("zero", "random", "replay", "flipper", "clone", "cloned", "split-1", "split-2", "sole-owner", "honest")
RIDERS, FLIPPER, CLONE, CLONED, SOLE_OWNER, HONEST = range(3), 3, 4, 5, 8, 9
SIZES = (100, 100, 100, 120, 0, 120, 60, 60, 20, 120)
CLASSES, ROUNDS, LOCAL_EPOCHS, HIDDEN, RATE = 10, 10, 3, 32, 3e-3
MEASURES = ("standalone", "data_share", "cosine", "class_cosine", "alignment", "fedsv", "banzhaf")


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


class PlantedData(DigitsData):
    """The digits of this benchmark: random labels for riders, 9 - c for the flipper."""

    @override
    def _add_noise(self) -> None:
        generator = torch.Generator().manual_seed(self.partition_seed)
        for rider in RIDERS:
            labels = self.participant(rider).tensors[1]
            labels.copy_(torch.randint(0, CLASSES, labels.shape, generator=generator))
        flipped = self.participant(FLIPPER).tensors[1]
        flipped.copy_(9 - flipped)


class PlantedCollaboration(Collaboration):
    """The engine with participants that do not send what they trained."""

    last_aggregate: Tensor | None = None
    scale = 1.0

    @override
    def _train_participant(self, number: int, index: int) -> tuple[float, Tensor]:
        loss, update = super()._train_participant(number, CLONED if index == CLONE else index)
        match NAMES[index]:
            case "zero":
                update = torch.zeros_like(update)
            case "random":
                noise = torch.randn(
                    update.shape, generator=torch.Generator().manual_seed(1000 * self.plan.seed + number)
                )
                update = noise * (update.norm() / noise.norm())
            case "replay" if self.last_aggregate is not None:
                update = self.last_aggregate.float()
            case "honest":
                update = self.scale * update
        return loss, update


class BothAssessments(CollaborationCallback):
    """Measures every round with the gates and without, and keeps the aggregate for whoever replays it."""

    @override
    def setup(self, run: Collaboration) -> None:
        self.measures = {
            gates: Measures(run, Assessment(MEASURES[2:], gates=gates), paid_by="standalone") for gates in (False, True)
        }

    @override
    def on_round_start(self, run: Collaboration) -> None:
        for measures in self.measures.values():
            measures.start_round(run)

    @override
    def on_round_end(self, run: Collaboration, result: RoundResult) -> None:
        for measures in self.measures.values():
            measures.end_round(run, result)
        assert isinstance(run, PlantedCollaboration)
        run.last_aggregate = result.mean_update


def retrained_shapley(data: PlantedData, *, seed: int) -> np.ndarray:
    """Return the exact values when every coalition trains a network of its own; coalitions without data guess."""
    parts = [data.participant(index).tensors for index in range(len(NAMES))]
    inputs, targets = data.validation().tensors
    known: dict[tuple[int, ...], float] = {(): 1 / CLASSES}

    def train(members: tuple[int, ...]) -> float:
        pooled = [torch.cat([parts[index][column] for index in members]) for column in (0, 1)]
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
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


def run_once(data: PlantedData, *, seed: int, scale: float) -> tuple[Column, Column, list[str]]:
    """Return values and pay by measure and gates, and what the gates caught everybody at."""
    torch.manual_seed(seed)
    model = SlimmableClassifier(
        CLASSES,
        data.input_shape,
        backbone="mlp",
        backbone_options={"hidden": (HIDDEN,)},
        widths=[1.0, 0.75, 0.5, 0.25, 0.125],
        sampled_widths=1,
        seed=seed,
    )
    model.configure_optimizers = lambda: torch.optim.Adam(model.parameters(), lr=RATE)
    both = BothAssessments()
    values, pay = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(
            max_rounds=ROUNDS,
            work=LocalWork(LOCAL_EPOCHS),
            participants_per_round=None,
            aggregator=FedAvg(),
            checkpoint_every=ROUNDS,
            seed=seed,
            run_dir=Path(folder),
            mechanism="",
        )
        run = PlantedCollaboration(Fabric(accelerator="cpu", devices=1), model, data, plan=plan, callbacks=[both])
        run.scale = scale
        run.fit()
        (curve,) = run.evaluator.accuracies(model.network.distinct_widths(), [data.validation()])
        for gates, measures in both.measures.items():
            for name, column in measures.values(run).items():
                key = (name, "on" if gates else "off") if name in MEASURES[2:] else (name, "-")
                standalone = measures.values(run)["standalone"]
                objective = "cv" if name == "standalone" else "proportional"
                mechanism = Aequa(contribution=name, objective=objective)
                allocation = mechanism.allocate(column, curve, standalone=standalone, held=run.widths)
                values[key], pay[key] = np.array(column), allocation.accuracies
    return values, pay, both.measures[True].remarks()


def main(seeds: int) -> None:
    torch.set_num_threads(1)
    start = time.perf_counter()
    rows: dict[float, dict[tuple[str, str], list[dict[str, Any]]]] = {}
    caught: dict[float, list[str]] = {}
    for seed in range(seeds):
        data = PlantedData(partition=Planted(), partition_seed=seed)
        data.names = NAMES
        data.setup()
        truth = retrained_shapley(data, seed=seed)
        for scale in (1.0, 10.0):
            values, pay, remarks = run_once(data, seed=seed, scale=scale)
            table = rows.setdefault(scale, defaultdict(list))
            table["retrained Shapley", "-"].append(figures(truth, truth, truth))
            for key, column in values.items():
                table[key].append(figures(column, pay[key], truth))
            caught.setdefault(scale, remarks)
            print(f"seed {seed}, scale {scale:g}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    for scale, table in rows.items():
        print(f"\n{seeds} seeds, {ROUNDS} rounds; the last participant sends its update {scale:g} times as long.")
        print("Per participant: mean rank of 10 (1 is best) / mean pay in %; first row: points of balanced accuracy.\n")
        print(f"| measure | gates | Pearson (least) | Spearman | {' | '.join(NAMES)} |")
        print("|---" * (4 + len(NAMES)) + "|")
        for (name, gates), runs in table.items():
            pearsons = [one["pearson"] for one in runs]
            rank, received = (np.mean([one[figure] for one in runs], axis=0) for figure in ("rank", "pay"))
            cells = " | ".join(f"{a:.1f} / {100 * b:.0f}" for a, b in zip(rank, received, strict=True))
            spearman = np.mean([one["spearman"] for one in runs])
            print(f"| {name} | {gates} | {np.mean(pearsons):.2f} ({min(pearsons):.2f}) | {spearman:.2f} | {cells} |")
        told = [f"{who}: {remark}" for who, remark in zip(NAMES, caught[scale], strict=True) if remark]
        print(f"\nCaught by the gates, seed 0: {' | '.join(told)}")
    print(f"\n{time.perf_counter() - start:.0f} s")


def figures(column: np.ndarray, pay: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Return how a measure stands to the reference, everybody's rank and pay."""
    return {
        "pearson": stats.pearsonr(column, truth).statistic,
        "spearman": stats.spearmanr(column, truth).statistic,
        "rank": stats.rankdata(-column),
        "pay": pay,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
