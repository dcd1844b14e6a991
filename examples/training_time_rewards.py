"""Rewards in every round: nobody ever receives a network that is better than its contribution deserves.

Run it with ``python examples/training_time_rewards.py``; it takes about a minute on two cores.
"""

import json
from pathlib import Path

from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from aequa_lightning import CollaborativeTrainer, SlimmableClassifier
from aequa_lightning.data import DigitsData, Dirichlet
from aequa_lightning.mechanisms import AequaTraining
from aequa_lightning.run_folder.events import read_events


def main(run_dir: Path = Path("runs/training-time"), rounds: int = 10, participants: int = 10) -> None:
    """Train, then print the width that everybody held in each round and what it ended with.

    Args:
        run_dir: The run folder.
        rounds: Number of rounds.
        participants: Their number.
    """
    trainer = CollaborativeTrainer(
        accelerator="cpu", devices=2, max_rounds=rounds, mechanism=AequaTraining(), run_dir=str(run_dir)
    )
    data = DigitsData(participants=participants, partition=Dirichlet(alpha=0.5), batch_size=32)
    widths = [number / 16 for number in range(16, 1, -1)]
    trainer.fit(SlimmableClassifier(data.num_classes, data.input_shape, backbone="cnn3", widths=widths), data)

    record = [event for event in read_events(run_dir / "events.jsonl") if event["event"] == "round"]
    paid = json.loads((run_dir / "allocation.json").read_text())["participants"]
    table = Table("participant", "contribution", "width by round", "width paid", "accuracy (test)")
    for index, person in enumerate(paid):
        held = " ".join(f"{event['participants'][index]['width']:.2f}" for event in record)
        paid_with = (f"{person['width']:.2f}", f"{person['test_accuracy']:.3f}")
        table.add_row(person["name"], f"{person['contribution']:.3f}", held, *paid_with)
    Console(width=140).print(table)
    sent = sum(event["bytes_sent"] for event in record) / 1e6
    print(f"{sent:.1f} MB were sent in {rounds} rounds.")


if __name__ == "__main__":
    auto_cli(main)
