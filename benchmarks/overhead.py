"""Time of a round besides the participants' training.

Usage: python -m benchmarks.overhead [--turns N]

On workloads of ``benchmarks.peers``, in turns with the plain loop; medians over all rounds but each run's first.
Evaluation between rounds is left out, for the loop has none. One process is timed by its processor's clock.

* own cost: what a round takes more than the plain loop's, in one process without stacks, with the loop's memory format
  and order of operations, for each participant (goal: at most 0.3 ms, and 1.03 times the loop);
* outside of training: the share of such a round that is not spent in ``LocalTrainer.train`` (goal: at most 3 % on
  silo10);
* efficiency: the time on one process over twice the time on two (goal: at least 0.9 on silo10).
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from aequa_lightning.engine.processes.machine import describe_machine
from benchmarks.peers.running import command, run_once
from benchmarks.peers.workloads import WORKLOADS

PEERS = ("loop", "aequa, 1 process, bare", "aequa, 1 process", "aequa")
ALONE = PEERS[:2]
NAMES = ("silo10", "partial100", "tiny1000")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2)
    turns = parser.parse_args().turns
    print(describe_machine(torch.device("cpu")))
    print(
        f"{'workload':11} {'loop ms':>9} {'bare ms':>9} {'of loop':>8} {'own ms':>8} {'outside':>8} {'efficiency':>11}"
    )
    for name in NAMES:
        rounds: dict[str, list[float]] = {peer: [] for peer in PEERS}
        outside: list[float] = []
        for peer in PEERS * turns:
            with tempfile.TemporaryDirectory() as scratch:
                words = command(peer, Path(scratch))
                figures = run_once(words, name, WORKLOADS[name].rounds, Path(scratch) / "result.json")
            rounds[peer] += figures["processor" if peer in ALONE else "seconds"][1:]
            if peer == "aequa, 1 process, bare":
                pairs = zip(figures["training"][1:], figures["processor"][1:], strict=True)
                outside += [1 - training / seconds for training, seconds in pairs]
        loop, bare, one, two = (statistics.median(rounds[peer]) for peer in PEERS)
        print(
            f"{name:11} {1e3 * loop:9.1f} {1e3 * bare:9.1f} {bare / loop:8.3f} "
            f"{1e3 * (bare - loop) / WORKLOADS[name].cohort:8.3f} {statistics.median(outside):8.1%} "
            f"{one / (2 * two):11.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
