"""Time from the command to the beginning of training.

Usage: python -m benchmarks.startup [--repeats N]

The median time from starting `aequa fit` to the beginning of training, and what a process takes to import torch and
Lightning, measured in turns.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIT = [
    "-m", "aequa_lightning", "fit", "--config", str(ROOT / "configs" / "digits.yaml"),
    "--trainer.max_rounds=1", "--trainer.devices=1", "--trainer.report=false",
]  # fmt: skip


def until_training(run_dir: Path) -> float:
    """Return the seconds from the start of the process to the first participant's training."""
    began = time.time()
    words = [sys.executable, *FIT, f"--trainer.run_dir={run_dir}"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    events = run_dir / "events.jsonl"
    try:
        while process.poll() is None:
            # The record begins where the training begins.
            if events.is_file() and (lines := events.read_text().splitlines()):
                return float(json.loads(lines[0])["time"]) - began
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    raise RuntimeError(f"aequa fit ended with status {process.returncode} before it began")


def importing() -> float:
    """Return the seconds in which a process imports torch and Lightning."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, lightning"], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    ours, bare = [], []
    for _ in range(repeats):
        bare.append(importing())
        with tempfile.TemporaryDirectory() as folder:
            ours.append(until_training(Path(folder) / "run"))
    a, b = statistics.median(ours), statistics.median(bare)
    print(f"start-up {a:.2f} s, importing torch and lightning {b:.2f} s, {a - b:.2f} s more (goal: at most 6)")


if __name__ == "__main__":
    main()
