"""Rank and reward of participants that cheat in one of 15 ways, by every measure, behind the gates.

Usage: python -m benchmarks.riders [SEEDS [FILE]]

Ten participants share the embedded digits by each of three partitions; participant 4 cheats, in one case 3, 4 and 5.
All measures are taken in the same run. Three questions:

1. Does any rider rank above the median of the honest? (``above``: share of the cells in which it does.) A clone, or the
   same data under two names, gains when both names together rank higher than the original does without the rider, by at
   least two places among the honest.
2. Does the honest participants' order stay? (``order``: Spearman coefficient with a run whose rider is not there: all
   its updates are refused, so that the others train and are valued without it.)
3. How often do the gates catch honest participants, by the nine partitions of the paper, and what do they cost in
   correlation with the accuracy alone where nobody cheats?

The first seed is done without gates, too. Each run is a row a measure of a CSV file (by default
``docs/results/riders.csv``) as soon as it is done; begun again, the benchmark goes on where it stood.
"""

import csv
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from scipy import stats
from typing_extensions import override

from aequa_lightning.adversaries import (
    Adversary,
    Clone,
    Drift,
    FlippedLabels,
    Noise,
    NotFinite,
    Nothing,
    Replay,
    Scale,
    SharedData,
    SignFlip,
)
from aequa_lightning.callbacks.assessment.measures import Assessment, Measures
from aequa_lightning.data import DigitsData
from aequa_lightning.data.partition import Dirichlet, Homogeneous, LabelSkew, Partition, QuantityImbalance
from aequa_lightning.engine.callback import CollaborationCallback, RoundResult
from aequa_lightning.engine.config import RunConfig
from aequa_lightning.engine.local.work import LocalWork
from aequa_lightning.engine.loop import Collaboration
from aequa_lightning.engine.run import Run
from aequa_lightning.engine.server.aggregators import FedAvg
from aequa_lightning.mechanisms import Aequa
from aequa_lightning.modules.classifier import SlimmableClassifier

PARTITIONS: dict[str, Partition] = {
    "homogeneous": Homogeneous(),
    "dirichlet-0.5": Dirichlet(0.5),
    "imbalance-0.15-6": QuantityImbalance(0.15, 6),
    "dirichlet-0.1": Dirichlet(0.1),
    "dirichlet-1": Dirichlet(1.0),
    "dirichlet-2": Dirichlet(2.0),
    "dirichlet-5": Dirichlet(5.0),
    "imbalance-0.4-2": QuantityImbalance(0.4, 2),
    "label-skew-3": LabelSkew(3),
}
WITH_RIDERS = tuple(PARTITIONS)[:3]
RIDER, ORIGINAL = 4, 2
# NotFinite is also the run without the riders: every update of theirs is refused.
ABSENT, THREE_ABSENT, HONEST = "not finite", "three not finite", "nobody"
KINDS: dict[str, Sequence[Adversary]] = {
    HONEST: (),
    ABSENT: (NotFinite([RIDER]),),
    THREE_ABSENT: (NotFinite([3, 4, 5]),),
    "nothing": (Nothing([RIDER]),),
    "noise": (Noise([RIDER]),),
    "replay of the last": (Replay([RIDER]),),
    "replay of two rounds ago": (Replay([RIDER], age=2),),
    "replay, cosine .97": (Replay([RIDER], mix=0.25),),
    "replay, half noise": (Replay([RIDER], mix=1.0),),
    "three replays": (Replay([3]), Replay([4], age=2), Replay([5], age=3)),
    "drift": (Drift([RIDER]),),
    "sign flip": (SignFlip([RIDER]),),
    "scale": (Scale([RIDER], factor=10),),
    "clone": (Clone([RIDER], of=ORIGINAL),),
    "flipped labels": (FlippedLabels([RIDER]),),
    "shared data": (SharedData([RIDER], of=ORIGINAL),),
}
MEASURES = (
    *("cosine", "rffl", "class_cosine", "alignment", "cffl"),
    *("loo", "fedsv", "banzhaf", "beta_shapley", "gtg_shapley"),
)
ROUNDS, LOCAL_EPOCHS, HIDDEN, RATE, PARTICIPANTS = 12, 3, 32, 5e-3, 10
RESULTS = Path(__file__).parents[1] / "docs" / "results" / "riders.csv"
Cell = tuple[str, str, str, int]


class Watch(CollaborationCallback):
    """Measures every round, and notes whom the gates catch.

    Args:
        gates: Whether there are gates.
    """

    def __init__(self, *, gates: bool) -> None:
        self.assessment = Assessment(MEASURES, gates=gates)
        self.caught: list[int] = []

    @override
    def setup(self, run: Run) -> None:
        self.measures = Measures(run, self.assessment, paid_by="standalone")

    @override
    def on_round_start(self, run: Run) -> None:
        self.measures.start_round(run)

    @override
    def on_updates(self, run: Run, accepted: Sequence[int], refused: Sequence[int]) -> Collection[int]:
        return self.measures.screen_round(run, accepted, refused)

    @override
    def on_round_end(self, run: Run, result: RoundResult) -> None:
        self.measures.end_round(run, result)
        self.accuracy = result.accuracy_by_width[1.0]


def run_once(cell: Cell, alone: Path) -> list[dict[str, Any]]:
    """Train once and return a row a measure."""
    partition, kind, gates, seed = cell
    adversaries = KINDS[kind]
    data = DigitsData(participants=PARTICIPANTS, partition=PARTITIONS[partition], partition_seed=seed, batch_size=64)
    torch.manual_seed(seed)
    model = SlimmableClassifier(
        data.num_classes,
        data.input_shape,
        backbone="mlp",
        backbone_options={"hidden": (HIDDEN,)},
        widths=[1.0, 0.5],
        num_random_widths=0,
        seed=seed,
    )
    model.configure_optimizers = lambda: torch.optim.Adam(model.parameters(), lr=RATE)
    watch = Watch(gates=gates == "on")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*are not finite or exploded")
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
            adversaries=adversaries,
        )
        collaboration = Collaboration(
            Fabric(accelerator="cpu", devices=1), model, data, config=config, callbacks=[watch]
        )
        collaboration.fit()
        run = collaboration.run
        measures = watch.measures
        values = {name: measures.paid(run, name) for name in ("standalone", *MEASURES)}
        reasons = measures.gate_record.state_dict()["reasons"]
    caught = [sum(count for reason, count in found.items() if not reason.startswith("kept out")) for found in reasons]
    seconds = time.perf_counter() - start
    return [
        {
            **dict(zip(("partition", "kind", "gates", "seed"), cell, strict=True)),
            "measure": name,
            "accuracy": watch.accuracy,
            "caught": " ".join(map(str, caught)),
            "values": " ".join(f"{value:.9g}" for value in column),
            "seconds": f"{seconds:.1f}",
        }
        for name, column in values.items()
    ]


def cells(seeds: int) -> Iterable[Cell]:
    """Yield what is to be run, the first seed first, and what is done without gates last."""
    for gates, seed in (*(("on", seed) for seed in range(seeds)), ("off", 0)):
        for partition in PARTITIONS:
            for kind in KINDS if partition in WITH_RIDERS else (HONEST,):
                yield partition, kind, gates, seed


def riders(kind: str) -> list[int]:
    """Return who cheats."""
    return [index for adversary in KINDS[kind] for index in adversary.participants]


def honest(kind: str) -> list[int]:
    """Return who neither cheats nor is cloned."""
    involved = {*riders(kind), *(index for adversary in KINDS[kind] for index in adversary.others())}
    return [index for index in range(PARTICIPANTS) if index not in involved]


def main(seeds: int, path: Path) -> None:
    torch.set_num_threads(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {cell_of(row) for row in read(path)}
    with tempfile.TemporaryDirectory() as alone:
        for cell in cells(seeds):
            if cell in done:
                continue
            rows = run_once(cell, Path(alone))
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerows(rows)
            print(*cell, f"{rows[0]['seconds']} s", file=sys.stderr, flush=True)
    tell(read(path))


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, of which there may be none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        row["values"] = np.array(row["values"].split(), dtype=np.float64)
        row["caught"] = np.array(row["caught"].split(), dtype=np.int64)
    return rows


def cell_of(row: dict[str, Any]) -> Cell:
    return row["partition"], row["kind"], row["gates"], int(row["seed"])


def tell(rows: list[dict[str, Any]]) -> None:
    """Print the tables."""
    found = {(*cell_of(row), row["measure"]): row for row in rows}
    names = ("standalone", *MEASURES)
    kinds = [kind for kind in KINDS if kind != HONEST]
    for gates in ("off", "on"):
        print(f"\nGates {gates}: share of the runs in which a rider ranks above the median of the honest, or gains.\n")
        table(
            kinds,
            names,
            lambda kind, name, gates=gates: gains(found, kind, gates, name),
        )
    print("\nGates on: Spearman coefficient of the honest ones' order with that without the rider, mean (least).\n")
    table(kinds, names, lambda kind, name: orders(found, kind, name), least=True)
    print("\nAccuracy of the full width in %, and rounds of", ROUNDS, "in which a rider was caught, mean.\n")
    print("| kind | gates off | gates on | caught |\n|---|---|---|---|")
    for kind in KINDS:
        accuracy = [
            np.mean([100 * float(row["accuracy"]) for row in selected(found, kind, gates, "cosine")] or [np.nan])
            for gates in ("off", "on")
        ]
        caught = [row["caught"][riders(kind)].mean() for row in selected(found, kind, "on", "cosine") if riders(kind)]
        print(f"| {kind} | {accuracy[0]:.1f} | {accuracy[1]:.1f} | {np.mean(caught or [0]):.1f} |")
    print(
        "\nNobody cheats: participant-rounds caught, and Pearson coefficient with the accuracy alone, gates off / on.\n"
    )
    print(f"| partition | runs | caught | {' | '.join(MEASURES)} |\n|---|---|---|{'---|' * len(MEASURES)}")
    for partition in PARTITIONS:
        runs = [row for key, row in found.items() if key[:3] == (partition, HONEST, "on") and key[4] == "cosine"]
        share = np.mean([row["caught"].sum() / (ROUNDS * PARTICIPANTS) for row in runs] or [np.nan])
        pairs = []
        for name in MEASURES:
            figures = [
                stats.pearsonr(found[key]["values"], found[*key[:4], "standalone"]["values"]).statistic
                for gates in ("off", "on")
                if (key := (partition, HONEST, gates, 0, name)) in found
            ]
            pairs.append(" / ".join(f"{figure:.3f}" for figure in figures))
        print(f"| {partition} | {len(runs)} | {100 * share:.2f} % | {' | '.join(pairs)} |")


def selected(found: dict[Any, dict[str, Any]], kind: str, gates: str, name: str) -> list[dict[str, Any]]:
    """Return the rows of one kind and measure."""
    return [row for key, row in found.items() if key[0] in WITH_RIDERS and key[1:3] == (kind, gates) and key[4] == name]


def gains(found: dict[Any, dict[str, Any]], kind: str, gates: str, name: str) -> list[float]:
    """Return for each run whether cheating pays."""
    copied = [index for adversary in KINDS[kind] for index in adversary.others()]
    pays = []
    for row in selected(found, kind, gates, name):
        values, others = row["values"], honest(kind)
        if not copied:
            pays.append(max(values[riders(kind)]) > np.median(values[others]))
            continue
        # All updates of the rider are refused in the other run, with and without gates.
        alone = found.get((row["partition"], ABSENT, gates, int(row["seed"]), name))
        if alone is not None:
            # Rows have nine digits: two halves may add up to a little more than the whole.
            both, one = (1 - 1e-6) * values[[*riders(kind), *copied]].sum(), alone["values"][copied].sum()
            pays.append(np.sum(values[others] < both) >= 2 + np.sum(alone["values"][others] < one))
    return [float(one) for one in pays]


def orders(found: dict[Any, dict[str, Any]], kind: str, name: str) -> list[float]:
    """Return how well the order of the honest agrees with that without the rider."""
    figures = []
    for row in selected(found, kind, "on", name):
        reference = THREE_ABSENT if len(riders(kind)) > 1 else ABSENT
        other = found.get((row["partition"], reference, "on", int(row["seed"]), name))
        if other is not None:
            pair = row["values"][honest(kind)], other["values"][honest(kind)]
            if min(np.ptp(pair[0]), np.ptp(pair[1])) > 0:
                figures.append(float(stats.spearmanr(*pair).statistic))
    return figures


def table(
    kinds: Sequence[str], names: Sequence[str], figures: Callable[[str, str], list[float]], *, least: bool = False
) -> None:
    """Print a table of means: a row a kind of cheating, a column a measure."""
    collected = defaultdict(list)
    print(f"| kind | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for kind in kinds:
        line = []
        for name in names:
            values = figures(kind, name)
            collected[name] += values
            line.append(told(values, least=least))
        print(f"| {kind} | {' | '.join(line)} |")
    print(f"| all | {' | '.join(told(collected[name], least=least) for name in names)} |")


def told(values: Sequence[float], *, least: bool) -> str:
    """Return a mean, and the least value if asked for."""
    if not values:
        return "-"
    return f"{np.mean(values):.2f}" + (f" ({min(values):.2f})" if least else "")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, Path(sys.argv[2]) if len(sys.argv) > 2 else RESULTS)
