"""Running `aequa` inside the test, on a small problem."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from aequa_lightning.__main__ import main

REPOSITORY = Path(__file__).parents[2]
DIGITS = REPOSITORY / "configs" / "digits.yaml"
# For tests of what is trained together: what everybody reaches alone takes as long again.
TOGETHER = (
    "--trainer.mechanism=SharedModel",
    "--trainer.mechanism.contribution=data_share",
    "--trainer.standalone=false",
    "--model.backbone=mlp",
    "--model.backbone_options={hidden: [16]}",
)


def small(run_dir: Path, *, devices: int = 1, rounds: int = 2, participants: int = 4) -> list[str]:
    """Words of a fit that takes a second or two; its page and programs, which take longer, are for tests of them."""
    return [
        "fit",
        "--config",
        str(DIGITS),
        f"--trainer.run_dir={run_dir}",
        f"--trainer.devices={devices}",
        f"--trainer.max_rounds={rounds}",
        "--trainer.local_epochs=1",
        f"--data.participants={participants}",
        "--data.partition=Dirichlet",
        "--data.partition.alpha=1.0",
        "--data.batch_size=32",
        "--data.train_samples=500",
        "--model.widths=[1.0,0.5,0.25]",
        "--trainer.mechanism=Aequa",
        "--trainer.mechanism.resolution=0.2",
        "--trainer.mechanism.bootstrap_samples=50",
        "--trainer.report=false",
        "--trainer.export_programs=false",
    ]


def aequa(*words: object) -> int:
    """Run `aequa` inside this process and return its exit status."""
    return main([str(word) for word in words])


def fit(run_dir: Path, *words: str, **sizes: Any) -> Path:
    """Run a small fit in this process and return its folder."""
    assert aequa(*small(run_dir, **sizes), *words) == 0
    return run_dir


def complaints(errors: str) -> list[str]:
    """Return the lines of the standard error that are neither progress nor about a stop."""
    steps = ("each alone ...", "round ", "measuring widths ...", "writing rewards ...")
    usual = (*steps, "stopping ", "stopped ", "stopped; ", "go on with: ", "go on in the same way with: ")
    return [line for line in errors.splitlines() if not line.startswith(usual)]


def events(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """Read the events of one kind."""
    path = run_dir / "events.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def parameters(run_dir: Path, number: int | None = None) -> dict[str, torch.Tensor]:
    """Read the shared model's tensors from the checkpoint of a round; None: the newest."""
    file = "last.ckpt" if number is None else f"round-{number:04d}.ckpt"
    state: dict[str, torch.Tensor] = torch.load(run_dir / "checkpoints" / file, weights_only=True)["state_dict"]
    return state


def largest_difference(one: Path, other: Path) -> float:
    """Return the largest difference between two runs' parameters."""
    first, second = parameters(one), parameters(other)
    assert first.keys() == second.keys()
    return max((first[name].double() - second[name].double()).abs().max().item() for name in first)


def outcome(path: Path, *, without: Collection[str] = ()) -> object:
    """Return the content of a file, to compare it with another run's: the bytes, or a JSON file without some keys."""
    if not without or path.suffix != ".json":
        return path.read_bytes()
    return json.loads(path.read_text(), object_hook=lambda entry: {key: entry[key] for key in entry.keys() - without})
