"""Three mechanisms on the same participants: Aequa, federated averaging, CGSV; with a page that compares them.

Run it with ``python examples/compare_mechanisms.py``; it takes about a minute on two cores.
"""

import json
from pathlib import Path

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from aequa_lightning import CollaborativeTrainer, SlimmableClassifier
from aequa_lightning.data import DigitsData, Dirichlet
from aequa_lightning.mechanisms import CGSV, Aequa, Mechanism, SharedModel
from aequa_lightning.report import build_report

MECHANISMS: dict[str, Mechanism] = {"aequa": Aequa(), "fedavg": SharedModel(), "cgsv": CGSV(beta=2.0)}


def main(folder: Path = Path("runs/mechanisms"), rounds: int = 10, participants: int = 10) -> None:
    """Run the three and print how each one pays.

    Args:
        folder: Gets a run folder for each mechanism, and the page that compares them.
        rounds: Rounds of each run.
        participants: Their number.
    """
    table = Table("mechanism", "best, test", "Pearson", "mean gain (MCG)", "spread (CGS)", "least gain")
    for name, mechanism in MECHANISMS.items():
        # The same first weights, so what participants reach alone is the same too: it is trained once and shared.
        torch.manual_seed(0)
        trainer = CollaborativeTrainer(
            accelerator="cpu",
            devices=2,
            max_rounds=rounds,
            mechanism=mechanism,
            run_dir=str(folder / name),
            standalone_dir=str(folder / "standalone"),
            report=False,  # one page compares them all
            export_programs=False,
        )
        data = DigitsData(participants=participants, partition=Dirichlet(alpha=0.5), batch_size=32)
        model = SlimmableClassifier(data.num_classes, data.input_shape, backbone="cnn3", widths=[1.0, 0.5, 0.25, 0.125])
        trainer.fit(model, data)
        paid = json.loads((folder / name / "allocation.json").read_text())
        table.add_row(
            name,
            f"{max(person['test_accuracy'] for person in paid['participants']):.3f}",
            "undefined" if paid["pearson"] is None else f"{paid['pearson']:.3f}",
            *(f"{paid[figure]:.3f}" for figure in ("mcg", "cgs", "minimum_gain")),
        )
    console = Console(width=140)
    console.print(table)
    console.print(f"report   {build_report([folder / name for name in MECHANISMS])}", soft_wrap=True)


if __name__ == "__main__":
    auto_cli(main)
