"""Runs the benchmarks that need nothing but the repository; writes their output to ``benchmarks/results/``.

Usage: python -m benchmarks [NAME ...]

Those that need data or a finished run (``against_separate``, ``against_pooled``) are started by themselves.
"""

import subprocess
import sys
from pathlib import Path

NAMES = ("allocation", "estimators", "slimmable_table", "sandwich_cost", "startup", "overhead", "peers")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run each benchmark in a process of its own."""
    RESULTS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or NAMES:
        print(f"== {name}", flush=True)
        words = [sys.executable, "-m", f"benchmarks.{name}"]
        output = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(output, flush=True)
        (RESULTS / f"{name}.txt").write_text(output)


if __name__ == "__main__":
    main()
