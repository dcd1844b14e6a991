"""Starts a peer on a workload in a separate process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.peers.environments import REQUIREMENTS, python_of

ROOT = Path(__file__).parents[2]
OURS = {
    "loop": ["run_loop"],
    "aequa": ["run_aequa", "--devices=2"],
    "aequa, 1 process": ["run_aequa", "--devices=1"],
    "aequa, 1 process, bare": ["run_aequa", "--devices=1", "--stacking=off", "--layout=plain"],
    "aequa, bf16": ["run_aequa", "--devices=2", "--precision=bf16-mixed"],
}
RIVALS = tuple(REQUIREMENTS)


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
