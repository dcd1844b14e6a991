"""Five federated-averaging workloads on this engine, a plain loop and five simulators, all in turns on one machine.

Usage: python -m benchmarks.peers [--quick] [--workloads NAME ...] [--peers NAME ...] [--repeats N] [--work FOLDER]

Each peer lives in an environment of its own, which is made on first use; all have the same PyTorch, one thread a
process, and two processes where they can use them. A round's time is the median of a run's rounds without the first,
and of these medians the median over the repeats. Peers run in turns within a repeat, so that a neighbour on the machine
meets all of them. ``difference`` is the distance of the final parameters from the plain loop's, relative to their norm.
A peer that cannot be installed or run is listed with its error. The table and all figures go to ``benchmarks/results``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aequa_lightning.collaboration.machine import describe_machine
from benchmarks.peers.environments import REQUIREMENTS, CannotInstall, python_of
from benchmarks.peers.workloads import WORKLOADS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
OURS = {
    "aequa": ["run_aequa", "--devices=2"],
    "aequa, 1 process": ["run_aequa", "--devices=1"],
    "aequa, 1 process, bare": ["run_aequa", "--devices=1", "--stacking=off", "--layout=plain"],
    "aequa, bf16": ["run_aequa", "--devices=2", "--precision=bf16-mixed"],
    "loop": ["run_loop"],
}
RIVALS = tuple(REQUIREMENTS)


@dataclass
class Runs:
    """What all runs of one peer on one workload gave.

    Attributes:
        rounds: Median seconds of a round, of each run.
        first: Seconds of the first round, of each run.
        start: Seconds from the start of the process to the first round, of each run.
        difference: Largest relative distance of the final parameters from the loop's.
        error: Why there is nothing, or no more.
    """

    rounds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    difference: float = 0.0
    error: str | None = None


def command(peer: str, folder: Path) -> list[str]:
    """Return the words that run a peer, without workload, rounds and result."""
    if peer in OURS:
        script, *options = OURS[peer]
        return [sys.executable, "-m", f"benchmarks.peers.{script}", *options]
    python = str(python_of(peer, folder))
    launcher = ["torch.distributed.run", "--nproc-per-node=2", "-m"] if peer == "pfl" else []
    return [python, "-m", *launcher, f"benchmarks.peers.run_{peer}"]


def run_once(words: list[str], name: str, rounds: int, path: Path) -> dict[str, list[float]]:
    """Run a peer once in a process of its own and return its figures.

    Raises:
        RuntimeError: It failed; with the last lines that it wrote.
    """
    sources = os.pathsep.join([str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    quiet = {"OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0", "RAY_DEDUP_LOGS": "1", "PYTHONWARNINGS": "ignore"}
    environment = os.environ | quiet | {"PYTHONPATH": sources, "BENCHMARK_BEGAN": str(time.time())}
    done = subprocess.run(
        [*words, name, str(rounds), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=path.parent,
        timeout=1800,
    )
    # Some peers end badly after all work is done; what counts is the result.
    if not path.is_file():
        raise RuntimeError("\n".join(done.stdout.strip().splitlines()[-5:]) or f"exit status {done.returncode}")
    figures: dict[str, list[float]] = json.loads(path.read_text())
    return figures


def measure(name: str, peers: list[str], repeats: int, rounds: int, folder: Path) -> dict[str, Runs]:
    """Run all peers on one workload, in turns."""
    results = {peer: Runs() for peer in peers}
    reference: np.ndarray | None = None
    for repeat in range(repeats):
        for peer, runs in results.items():
            if runs.error:
                continue
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / "result.json"
                try:
                    figures = run_once(command(peer, folder), name, rounds, path)
                except (CannotInstall, RuntimeError, subprocess.TimeoutExpired) as error:
                    runs.error = str(error)
                    print(f"{name:11} {peer:24} {runs.error}", flush=True)
                    continue
                final = np.load(path.with_suffix(".npy"))
            runs.rounds.append(statistics.median(figures["seconds"][1:]))
            runs.first.append(figures["seconds"][0])
            runs.start.append(figures["start"][0])
            reference = final if peer == "loop" else reference
            if reference is not None:
                distance = np.linalg.norm(final - reference) / np.linalg.norm(reference)
                runs.difference = max(runs.difference, float(distance))
            print(f"{name:11} {peer:24} repeat {repeat + 1}: {runs.rounds[-1]:.4f} s a round", flush=True)
    return results


def table(results: dict[str, dict[str, Runs]]) -> str:
    """Return the figures of all workloads as text."""
    lines = []
    for name, runs in results.items():
        done = {peer: statistics.median(value.rounds) for peer, value in runs.items() if value.rounds}
        rivals = {peer: seconds for peer, seconds in done.items() if peer in RIVALS}
        best = min(rivals, key=rivals.__getitem__) if rivals else None
        lines.append(f"{name}: {WORKLOADS[name]}")
        lines.append(
            f"  {'peer':24} {'round s':>9} {'least':>9} {'of best rival':>14} {'of loop':>8} {'first':>7}",
        )
        lines[-1] += f" {'start':>6} {'difference':>11}"
        for peer, value in runs.items():
            if peer not in done:
                reason = (value.error or "").splitlines()
                lines.append(f"  {peer:24} {reason[-1] if reason else 'not run'}")
                continue
            of_best = f"{done[peer] / done[best]:.3f}" if best else "-"
            of_loop = f"{done[peer] / done['loop']:.3f}" if "loop" in done else "-"
            figures = f"{done[peer]:9.4f} {min(value.rounds):9.4f} {of_best:>14} {of_loop:>8}"
            ends = (
                f"{statistics.median(value.first):7.2f} {statistics.median(value.start):6.1f} {value.difference:11.1e}"
            )
            lines.append(f"  {peer:24} {figures} {ends}{'  <- best rival' if peer == best else ''}")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat of four rounds")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--peers", nargs="+", choices=[*OURS, *RIVALS], default=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "aequa-lightning" / "peers")
    options = parser.parse_args()
    peers = options.peers or ["loop", "aequa", "aequa, 1 process", "aequa, 1 process, bare", *RIVALS]
    results = {}
    for name in options.workloads:
        also = ["aequa, bf16"] if name == "silo10" and options.peers is None else []
        rounds = 4 if options.quick else WORKLOADS[name].rounds
        repeats = 1 if options.quick else options.repeats
        results[name] = measure(name, [*peers, *also], repeats, rounds, options.work)
    import torch

    machine = describe_machine(torch.device("cpu"))
    text = f"{machine}\n{'quick, ' if options.quick else ''}load at the end {os.getloadavg()}\n\n{table(results)}"
    print(f"\n{text}")
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / ("peers_quick" if options.quick else "peers")
    stem.with_suffix(".txt").write_text(text)
    stem.with_suffix(".json").write_text(
        json.dumps(
            {name: {peer: vars(value) for peer, value in runs.items()} for name, runs in results.items()}, indent=1
        )
    )


if __name__ == "__main__":
    main()
