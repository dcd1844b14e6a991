"""Three rounds of each rival by its authors' code and by this project's, from the same start with the same updates.

Usage: python -m benchmarks.rivals_sources FOLDER [FILE]

FOLDER holds checkouts of the authors' repositories, each under its name; docs/mechanisms.md names them with versions.
Here the mechanism is run by the whole engine, with participants that send planted updates. There it is run by
``source_rules``. The difference of a mechanism is the largest, over rounds and participants, of the distance between
both models relative to how far the source's has moved since the start. Rows go to FILE, by default
``docs/results/rivals.csv``.
"""

import argparse
import csv
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from aequa_lightning import CollaborativeTrainer, SlimmableClassifier
from aequa_lightning.adversaries import Adversary, View
from aequa_lightning.callbacks.assessment.measures import Assessment
from aequa_lightning.callbacks.assessment.valuation import LOSS_BATCH
from aequa_lightning.data import DigitsData, QuantityImbalance
from aequa_lightning.engine.processes.seeding import derive_generator, derive_seed
from aequa_lightning.mechanisms import CFFL, CGSV, IAFL, RFFL, FedAVE, FedRAC, LGFedAvg, PaidInRounds, Rank, ShapFed
from aequa_lightning.mechanisms.payment import RoundContext, subsets
from benchmarks import source_rules
from benchmarks.source_case import Case, Net, vector

OUTPUT = Path(__file__).parents[1] / "docs" / "results" / "rivals.csv"
ROUNDS, SEED = 3, 0
SIZES, SIZES_OF_FEDRAC = (64, 16, 8, 10), (64, 200, 200, 10)
Rule = Callable[[Path, Case], list[Tensor]]

# Each mechanism, the repository of its source, and how the source's rule is run.
PAIRS: dict[str, tuple[PaidInRounds, str, Rule]] = {
    "CGSV": (
        CGSV(beta=2.0, length=0.5),
        "Gradient-Driven-Rewards-to-Guarantee-Fairness-in-Collaborative-Machine-Learning",
        partial(source_rules.cgsv, beta=2.0, length=0.5),
    ),
    "RFFL": (RFFL(length=2.0), "Robust-and-Fair-Federated-Learning", partial(source_rules.rffl, length=2.0)),
    "CFFL": (
        CFFL(clip=0.1),
        "CollaborativeFairFederatedLearning",
        partial(source_rules.cffl, clip=0.1, aggregate="mean"),
    ),
    "CFFL (sum)": (
        CFFL(clip=0.1, aggregate="sum"),
        "CollaborativeFairFederatedLearning",
        partial(source_rules.cffl, clip=0.1, aggregate="sum"),
    ),
    "FedAVE": (FedAVE(beta=2.0, length=0.5), "FedAVE", partial(source_rules.fedave, beta=2.0, length=0.5)),
    "ShapFed": (ShapFed(), "shapfed", source_rules.shapfed),
    "IAFL": (IAFL(contribution="data_share", reset=0.5), "Incentive-Aware-FL", source_rules.iafl),
    "Rank": (Rank(), "Incentive-Aware-FL", source_rules.rank),
    "LGFedAvg": (
        LGFedAvg(layers=2),
        "Incentive-Aware-FL",
        partial(source_rules.lg_fedavg, shared=("hidden.1", "linear")),
    ),
    "FedRAC": (FedRAC(beta=20.0), "FedRAC", partial(source_rules.fedrac, beta=20.0)),
}


class Planted(Adversary):
    """A participant that sends given updates, whatever it has trained."""

    uses_aggregates = False

    def __init__(self, participant: int, updates: Sequence[Tensor], moves: Callable[[Tensor], Tensor]) -> None:
        super().__init__([participant])
        self._updates, self._moves = updates, moves

    @override
    def send(self, update: Tensor, view: View) -> Tensor:
        return self._updates[view.round - 1] * self._moves(view.received)


def planted_updates(start: Tensor, sizes: Sequence[int], data: DigitsData) -> list[Tensor]:
    """Return updates of each round, (N, P): more or less of the way to a trained model, with noise."""
    net = Net(sizes).of(start)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    inputs, targets = data.pooled().tensors
    for _ in range(40):
        optimizer.zero_grad()
        functional.cross_entropy(net(inputs), targets).backward()
        optimizer.step()
    way, generator = vector(net) - start, torch.Generator().manual_seed(SEED)
    parts = torch.linspace(0.1, 0.5, data.participants)[:, None]
    noise = way.norm() / len(way) ** 0.5 * torch.randn(ROUNDS, data.participants, len(way), generator=generator)
    return [parts.roll(number, 0) * way + 0.15 * noise[number] for number in range(ROUNDS)]


def case_of(name: str) -> tuple[Case, SlimmableClassifier, DigitsData]:
    """Return the common setting of both sides, but for what a run finds out."""
    sizes, count = (SIZES_OF_FEDRAC, 10) if name == "FedRAC" else (SIZES, 5)
    data = DigitsData(participants=count, partition=QuantityImbalance(share=0.3, owners=2))
    torch.manual_seed(SEED)
    model = SlimmableClassifier(10, data.input_shape, backbone="mlp", backbone_options={"hidden": sizes[1:-1]})
    start = torch.cat([value.detach().flatten() for value in model.parameters()])
    samples = [len(data.participant(index)) for index in range(count)]
    inputs, targets = data.validation().tensors
    size = max(1, min(LOSS_BATCH, min(samples) // 4, len(inputs) // 4))

    def losses(parameters: Tensor, number: int, index: int) -> tuple[list[float], list[float]]:
        net = Net(sizes).of(parameters)
        parts = {"own losses": data.participant(index).tensors, "validation losses": (inputs, targets)}
        series = []
        for role, (features, classes) in parts.items():
            order = torch.randperm(len(features), generator=derive_generator(SEED, role, number, index)).split(size)
            with torch.no_grad():
                series.append([functional.cross_entropy(net(features[one]), classes[one]).item() for one in order])
        return series[0], series[1]

    planted = planted_updates(start, sizes, data)
    return Case(start, sizes, planted, samples, (inputs, targets), [0.0] * count, losses), model, data


def moves(name: str, sizes: Sequence[int], received: Tensor) -> Tensor:
    """Tell which entries training moves; in a sub-model of FedRAC none into or out of a neuron that is left out."""
    if name != "FedRAC":
        return torch.ones_like(received)
    net = Net(sizes).of(received)
    first, second = (layer.bias != 0 for layer in net.hidden)
    parts = [first[:, None].expand_as(net.hidden[0].weight), first, second[:, None] & first, second]
    parts += [second.expand_as(net.linear.weight), torch.ones(sizes[-1], dtype=torch.bool)]
    return torch.cat([part.reshape(-1) for part in parts]).to(received.dtype)


def ours(name: str, mechanism: PaidInRounds, case: Case, model: SlimmableClassifier, data: DigitsData) -> list[Tensor]:
    """Run the mechanism by the engine; note in the case what the source's rule is to be told."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = CollaborativeTrainer(
            accelerator="cpu",
            devices=1,
            max_rounds=ROUNDS,
            keep_checkpoints=ROUNDS,
            run_dir=folder,
            mechanism=mechanism,
            assessment=Assessment(measures=(), gates=False),
            adversaries=[
                Planted(index, [updates[index] for updates in case.planted], partial(moves, name, case.sizes))
                for index in range(case.participants)
            ],
            standalone=mechanism.contribution == "standalone",
            report=False,
            export_programs=False,
        )
        with redirect_stdout(io.StringIO()):
            trainer.fit(model, data)
        states = [
            torch.load(Path(folder) / "checkpoints" / f"round-{number:04d}.ckpt", weights_only=True)
            for number in range(1, ROUNDS + 1)
        ]
        assert states[-1]["samples"] == case.samples
        with (Path(folder) / "contributions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    if name == "FedRAC":
        case.standalone = [float(row["standalone"]) for row in rows]
    if isinstance(mechanism, IAFL):
        case.draws = draws_of(mechanism, case.samples)
    return [state["models"] for state in states]


def draws_of(mechanism: IAFL, samples: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return whom everybody averaged in each round, and who was reset after it."""
    share = torch.tensor(samples, dtype=torch.float64)
    draws = []
    for number in range(1, ROUNDS + 1):
        seeds = [derive_seed(SEED, "delivery", number, index) for index in range(len(samples))]
        ones = torch.ones(len(samples), dtype=torch.float64)
        context = RoundContext(number, seeds, ones / len(samples), share, share / share.max(), ones, share)
        mixing, reset = subsets(context, kappa=mechanism.kappa, reset=mechanism.reset)
        draws.append((mixing > 0, reset))
    return draws


def difference(mine: Sequence[Tensor], theirs: Sequence[Tensor], start: Tensor) -> float:
    """Return the largest distance of two models, relative to how far the second has moved."""
    distances = [
        ((own - other).double().norm(dim=1) / (other - start).double().norm(dim=1).clamp(min=1e-12)).max().item()
        for own, other in zip(mine, theirs, strict=True)
    ]
    return max(distances)


def compare(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each mechanism whose source is in the folder."""
    rows = []
    for name, (mechanism, repository, rule) in PAIRS.items():
        if not (folder / repository).exists():
            print(f"{name}: no checkout of {repository}; left out")
            continue
        case, model, data = case_of(name)
        mine = ours(name, mechanism, case, model, data)
        rows.append({"mechanism": name, "difference": difference(mine, rule(folder, case), case.start)})
        print(f"{name}: {rows[-1]['difference']:.1e}", flush=True)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [f"| `{row['mechanism']}` | {float(row['difference']):.0e} |" for row in rows]
    return "\n".join(["| mechanism | largest difference over three rounds |", "|---|---|", *lines])


def main() -> None:
    """Compare, write the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path, nargs="?", default=OUTPUT)
    options = parser.parse_args()
    rows = compare(options.folder)
    with options.file.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["mechanism", "difference"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "difference": f"{row['difference']:.3g}"} for row in rows)
    print(table(rows))


if __name__ == "__main__":
    main()
