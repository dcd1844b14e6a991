"""Five federated-averaging workloads on this engine, a plain loop and five simulators, interleaved on one machine.

Usage: python -m benchmarks.peers [--quick] [--minutes M] [--workloads NAME ...] [--peers NAME ...] [--work FOLDER]

Each peer lives in an environment of its own, which is made on first use outside of the repository; all have the same
PyTorch, one thread a process, and two processes where they can use them. Everybody gets the same bytes in the same
batches. All peers run all workloads in turn, again and again while the minutes last, so that a neighbour on the machine
meets all of them. A round's time is the median over all rounds of all runs, without each run's first one.

``difference`` is the distance of the final parameters from the plain loop's, relative to their norm; each table says
who is within 1e-4. Another layout in memory rounds otherwise, which decides whether a number next to zero passes a
ReLU: on silo10 this befalls one participant of ten in its second step with the channels last, and moves the average by
3e-4, while the other nine stay within 1e-7. Therefore this engine also runs ``bare``: in the loop's layout and order of
operations, no stacks.

``aequa, bf16`` runs on silo10 only. Processors that do not multiply bfloat16 by themselves emulate it, at several times
the time of float32. Those with AVX512-BF16 do, yet convolutions of so few channels take 1.5 times as long in it as in
float32 (oneDNN 3.12 on a Xeon with AVX512-BF16 and without AMX, where this could be measured).

A peer that cannot be installed or run is listed with the reason.
The table is printed, and all figures go to ``benchmarks/results``.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from aequa_lightning.engine.processes.machine import describe_machine
from benchmarks.peers.environments import CannotInstall, python_of
from benchmarks.peers.running import OURS, RIVALS, command, run_once
from benchmarks.peers.workloads import WORKLOADS, build_network, make_test_data

RESULTS = Path(__file__).parents[1] / "results"
TOLERANCE = 1e-4
LOWER_PRECISION = ("aequa, bf16",)


@dataclass
class Runs:
    """What all runs of one peer on one workload gave.

    Attributes:
        rounds: Seconds of each round but the first, of all runs.
        first: Seconds of the first round, of each run.
        start: Seconds from the start of the process to the first round, of each run.
        difference: Largest relative distance of the final parameters from the loop's.
        accuracy: Of the final parameters, on samples that nobody trained on.
        error: Why there is nothing, or no more.
    """

    rounds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    difference: float = 0.0
    accuracy: float = 0.0
    error: str | None = None


def measure(name: str, results: dict[str, Runs], rounds: int, folder: Path) -> None:
    """Run all peers once on one workload, and add what they give to the results."""
    reference: np.ndarray | None = None
    for peer, runs in results.items():
        if runs.error:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "result.json"
            try:
                figures = run_once(command(peer, folder), name, rounds, path)
            except CannotInstall as error:
                runs.error = f"not installed: {error}"
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                runs.error = f"failed: {error}"
            if runs.error:
                print(f"{name:11} {peer:24} {runs.error}", flush=True)
                continue
            final = np.load(path.with_suffix(".npy"))
        runs.rounds += figures["seconds"][1:]
        runs.first.append(figures["seconds"][0])
        runs.start.append(figures["start"][0])
        runs.accuracy = accuracy(name, final)
        reference = final if peer == "loop" else reference
        if reference is not None:
            distance = np.linalg.norm(final - reference) / np.linalg.norm(reference)
            runs.difference = max(runs.difference, float(distance))
        print(f"{name:11} {peer:24} {statistics.median(figures['seconds'][1:]):.4f} s a round", flush=True)


def accuracy(name: str, parameters: np.ndarray) -> float:
    """Return the accuracy of a network with the given parameters on a workload's test samples."""
    images, classes = (torch.from_numpy(array) for array in make_test_data(WORKLOADS[name]))
    network = build_network(input_shape=images.shape[1:])
    torch.nn.utils.vector_to_parameters(torch.from_numpy(parameters), network.parameters())
    with torch.no_grad():
        return float((network(images).argmax(1) == classes).double().mean())


def table(results: dict[str, dict[str, Runs]]) -> str:
    """Return the figures of all workloads as text."""
    lines = []
    for name, runs in results.items():
        done = {peer: statistics.median(value.rounds) for peer, value in runs.items() if value.rounds}
        rivals = {peer: seconds for peer, seconds in done.items() if peer in RIVALS}
        best = min(rivals, key=rivals.__getitem__) if rivals else None
        lines.append(f"{name}: {WORKLOADS[name]}")
        lines.append(
            f"  {'peer':24} {'rounds':>6} {'round s':>9} {'of best rival':>14} {'of loop':>8} "
            f"{'first':>7} {'start':>6} {'difference':>11} {'accuracy':>9}"
        )
        for peer, value in runs.items():
            if peer not in done:
                lines.append(f"  {peer:24} {' '.join((value.error or 'not run').split())[:120]}")
                continue
            of_best = f"{done[peer] / done[best]:.3f}" if best else "-"
            of_loop = f"{done[peer] / done['loop']:.3f}" if "loop" in done else "-"
            lines.append(
                f"  {peer:24} {len(value.rounds):6d} {done[peer]:9.4f} {of_best:>14} {of_loop:>8} "
                f"{statistics.median(value.first):7.2f} {statistics.median(value.start):6.1f} "
                f"{value.difference:11.1e} {value.accuracy:9.3f}{'  <- best rival' if peer == best else ''}"
            )
        same = [peer for peer in done if peer not in ("loop", *LOWER_PRECISION)]
        other = [peer for peer in same if runs[peer].difference > TOLERANCE]
        if "loop" in done:
            lines.append(f"  final parameters within {TOLERANCE:g} of the plain loop's: {check(same, other)}")
        lines.append("")
    return "\n".join(lines)


def check(same: list[str], other: list[str]) -> str:
    """Say who has done the same work."""
    return f"NOT of {', '.join(other)}" if other else f"of all {len(same)} others in its precision"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run of three rounds each")
    parser.add_argument("--minutes", type=float, default=12, help="repeat while this lasts; all run once in any case")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--peers", nargs="+", choices=[*OURS, *RIVALS], default=[*OURS, *RIVALS])
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "aequa-lightning" / "peers")
    options = parser.parse_args()
    results = {
        name: {peer: Runs() for peer in options.peers if name == "silo10" or peer not in LOWER_PRECISION}
        for name in options.workloads
    }
    install([peer for peer in options.peers if peer in RIVALS], options.work)
    began, turns = time.monotonic(), 0
    # One more turn only when it will end in time.
    while turns == 0 or (not options.quick and (turns + 1) / turns * (time.monotonic() - began) < 60 * options.minutes):
        for name, runs in results.items():
            measure(name, runs, 3 if options.quick else WORKLOADS[name].rounds, options.work)
        turns += 1
    machine = describe_machine(torch.device("cpu"))
    took = f"{turns} turns in {(time.monotonic() - began) / 60:.1f} minutes, load at the end {os.getloadavg()}"
    print(f"\n{machine}\n{'quick, ' if options.quick else ''}{took}\n\n{table(results)}")
    figures = {name: {peer: vars(value) for peer, value in runs.items()} for name, runs in results.items()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ("peers_quick.json" if options.quick else "peers.json")).write_text(json.dumps(figures, indent=1))


def install(peers: list[str], folder: Path) -> None:
    """Make the peers' environments, which is not to count in any time."""
    for peer in peers:
        with suppress(CannotInstall):
            python_of(peer, folder)


if __name__ == "__main__":
    main()
