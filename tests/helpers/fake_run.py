"""A made-up run folder with the files that `aequa fit` writes: for the report's tests and for looking at its pages."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from aequa_lightning.run_folder.csv_files import csv_text

GRID = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
PHASES = {"training": 0.78, "reduction": 0.03, "evaluation": 0.15, "callbacks": 0.01, "other": 0.03}
START = 1_780_000_000.0


def write_fake_run(
    folder: Path,
    *,
    participants: int = 10,
    rounds: int = 10,
    classes: int = 10,
    seed: int = 0,
    equal_rewards: bool = False,
    finished: bool = True,
    name: str = "participant-{:02d}",
    mechanism: str = "Aequa(contribution='standalone', objective='cv', slope='auto')",
) -> Path:
    """Write a plausible finished run and return its folder.

    With ``equal_rewards`` everybody receives the full width, which leaves the Pearson coefficient undefined. Without
    ``finished`` the run stops half way: no contributions, no allocation, no rewards.
    """
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = [name.format(i) for i in range(participants)]
    counts = random.multinomial(120, random.dirichlet(np.full(participants, 0.5), size=classes)).T
    counts[:, 0] += 8
    samples = counts.sum(axis=1)
    alone = _alone(counts, random)
    alone_test = np.clip(alone - 0.012 + random.normal(0, 0.012, participants), 0.05, 0.99)

    events: list[dict[str, Any]] = [_start(names, counts, mechanism, rounds)]
    for i, who in enumerate(names):
        events.append(
            {
                "event": "standalone",
                "participant": who,
                "samples": int(samples[i]),
                "validation_accuracy": float(alone[i]),
                "test_accuracy": float(alone_test[i]),
                "seconds": 0.2 + float(samples[i]) / 200,
            }
        )
    done = rounds if finished else max(rounds // 2, 1)
    events += [_round(number, rounds, names, samples, random) for number in range(1, done + 1)]
    if finished:
        events.append({"event": "contributions", "measures": {"standalone": alone.tolist()}, "paid_by": "standalone"})
        events.append({"event": "finish", "seconds": 21.4 + 1.3 * rounds, "rounds": rounds})
    else:
        events.append({"event": "stop", "signal": "SIGTERM", "round": done})
    for second, event in enumerate(events):
        event["time"] = START + second
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (folder / "config.yaml").write_text(_CONFIG.format(rounds=rounds, participants=participants, seed=seed))
    if finished:
        _pay(folder, names, samples, alone, alone_test, random, equal=equal_rewards)
    return folder


def curve(width: float | np.ndarray) -> Any:
    """Return a smooth accuracy for a width: steep below, flat near the top."""
    return 0.978 - 0.86 * np.exp(-6.5 * np.asarray(width) ** 1.15)


def _alone(counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return standalone accuracies that grow with the samples and with the classes held."""
    held = (counts > 3).mean(axis=1)
    size = counts.sum(axis=1) / counts.sum(axis=1).max()
    return np.clip(0.25 + 0.4 * held + 0.26 * size**0.7 + random.normal(0, 0.02, len(counts)), 0.1, 0.95)


def _start(names: list[str], counts: np.ndarray, mechanism: str, rounds: int) -> dict[str, Any]:
    return {
        "event": "start",
        "round": 0,
        "version": "0.1.0",
        "processes": 2,
        "replicas": 1,
        "device": "cpu",
        "machine": {
            "cpu": "AMD EPYC 7763",
            "cores": 2,
            "python": "3.11.7",
            "torch": "2.14.1",
            "lightning": "2.6.6",
        },
        "data": {
            "name": "Digits",
            "participants": names,
            "samples": counts.sum(axis=1).tolist(),
            "class_counts": counts.tolist(),
            "num_classes": counts.shape[1],
            "input_shape": [1, 8, 8],
            "partition": {"name": "Dirichlet", "alpha": 0.5},
            "validation": 287,
            "test": 360,
        },
        "model": {"backbone": "cnn3", "parameters": 23946, "widths": list(GRID[::-1])},
        "mechanism": mechanism,
        "max_rounds": rounds,
    }


def _round(
    number: int, rounds: int, names: list[str], samples: np.ndarray, random: np.random.Generator
) -> dict[str, Any]:
    learned = 1 - np.exp(-4.5 * number / rounds)
    seconds = 1.3 + float(random.uniform(-0.1, 0.15))
    return {
        "event": "round",
        "round": number,
        "train_loss": 2.3 - 2.1 * learned,
        "seconds": seconds,
        "seconds_by_phase": {phase: seconds * share for phase, share in PHASES.items()},
        "validation_accuracy": {
            f"{p:g}": float(np.clip(0.1 + (curve(p) - 0.1) * learned + random.normal(0, 0.006), 0, 1)) for p in GRID
        },
        "bytes_sent": 4 * 23946 * 2,
        "participants": [
            {"name": name, "loss": 2.3 - 2.1 * learned, "cosine": 0.8, "samples": int(count)}
            for name, count in zip(names, samples, strict=True)
        ],
        "rejected": [],
    }


def _pay(
    folder: Path,
    names: list[str],
    samples: np.ndarray,
    alone: np.ndarray,
    alone_test: np.ndarray,
    random: np.random.Generator,
    *,
    equal: bool,
) -> None:
    measured = np.unique(np.concatenate([GRID, np.linspace(0.125, 1, 57)]))
    accuracy = np.clip(curve(measured) + random.normal(0, 0.003, len(measured)), 0, 1)
    accuracy[-1] = accuracy.max() + 1e-4
    # Only widths that beat every narrower one are offered.
    best = np.maximum.accumulate(accuracy)
    offered = np.flatnonzero((accuracy >= best) & np.append(True, accuracy[1:] > best[:-1]))
    slope = min(1.0, (accuracy[-1] - accuracy[0]) / max(np.ptp(alone), 1e-9))
    targets = accuracy[-1] + slope * (alone - alone.max())
    chosen = np.array([offered[np.argmin(abs(accuracy[offered] - target))] for target in targets])
    if equal:
        chosen[:] = len(measured) - 1
    received = accuracy[chosen]
    test = np.clip(received - 0.008 + random.normal(0, 0.008, len(names)), 0, 1)
    gains = received - alone
    constant = np.ptp(received) == 0
    allocation = {
        "objective": "cv",
        "slope": float(slope),
        "widths": measured[offered].tolist(),
        "accuracy_by_width": {f"{p:g}": float(a) for p, a in zip(measured, accuracy, strict=True)},
        "inversions": [
            {
                "width": float(measured[i]),
                "accuracy": float(accuracy[i]),
                "reason": "a narrower width is at least as good",
            }
            for i in range(len(measured))
            if i not in offered
        ],
        "participants": [
            {
                "name": names[i],
                "contribution": float(alone[i]),
                "width": float(measured[chosen[i]]),
                "accuracy": float(received[i]),
                "gain": float(gains[i]),
                "standalone_test": float(alone_test[i]),
                "test_accuracy": float(test[i]),
            }
            for i in range(len(names))
        ],
        "mcg": float(gains.mean()),
        "cgs": float(gains.std()),
        "pearson": None if constant else float(np.corrcoef(alone, received)[0, 1]),
        "pearson_test": None if constant else float(np.corrcoef(alone_test, test)[0, 1]),
        "minimum_gain": float(gains.min()),
        "certificate": {"kind": "cuts", "lam": 0.5, "cuts": [0.18, 0.19], "remarks": ["a remark of the allocator"]},
    }
    allocation["uncertainty"] = {
        "level": 0.9,
        "repeats": 300,
        "mcg": [float(gains.mean()) - 0.01, float(gains.mean()) + 0.01],
        "cgs": [0.004, 0.021],
        "pearson": None if constant else [0.95, 0.99],
        "participants": [
            {"name": name, "width": [0.9 * float(measured[place]), float(measured[place])]}
            for name, place in zip(names, chosen, strict=True)
        ],
    }
    (folder / "allocation.json").write_text(json.dumps(allocation, indent=2))
    front = [
        {"mcg": float(gains.mean()) + 0.02 * step, "cgs": 0.01 + 0.004 * step**2, "widths": []} for step in range(-4, 4)
    ]
    chosen_pair = {"mcg": allocation["mcg"], "cgs": allocation["cgs"]}
    (folder / "frontier.json").write_text(json.dumps({"chosen": chosen_pair, "front": front}))
    cosine = np.clip(0.3 + 0.6 * alone + random.normal(0, 0.06, len(names)), 0, 1)
    caught = ["replay in 3 rounds", *[""] * (len(names) - 1)]
    rows = zip(names, samples.tolist(), alone.tolist(), cosine.tolist(), caught, strict=True)
    columns = ["participant", "samples", "standalone", "cosine", "gates"]
    (folder / "contributions.csv").write_text(csv_text(columns, rows))
    manifest = {
        "rewards": [
            {
                "file": f"{names[i]}.ckpt",
                "participant": names[i],
                "width": float(measured[chosen[i]]),
                "validation_accuracy": float(received[i]),
                "test_accuracy": float(test[i]),
                "bytes": int(9_000 + 95_000 * measured[chosen[i]] ** 2),
                "sha256": f"{i:064x}",
                "program": f"{names[i]}.pt2",
            }
            for i in range(len(names))
        ]
    }
    (folder / "rewards").mkdir(exist_ok=True)
    (folder / "rewards" / "manifest.json").write_text(json.dumps(manifest, indent=2))


_CONFIG = """\
seed_everything: {seed}
trainer:
  accelerator: cpu
  devices: 2
  max_rounds: {rounds}
model:
  class_path: aequa_lightning.SlimmableClassifier
  init_args:
    backbone: cnn3
data:
  class_path: aequa_lightning.data.DigitsData
  init_args:
    participants: {participants}
    partition:
      class_path: aequa_lightning.data.Dirichlet
      init_args:
        alpha: 0.5
"""
