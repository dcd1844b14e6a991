"""Every objective of the allocation on the same finished run. Nothing is trained.

Run it with ``python examples/compare_objectives.py`` after ``make demo``.
"""

import json
from pathlib import Path

from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from aequa_lightning.rewards import OBJECTIVES, allocate_widths


def main(run_dir: Path = Path("runs/demo")) -> None:
    """Print a row an objective: who gains how much, how alike the gains are, and how large the sub-networks.

    Args:
        run_dir: Folder of a finished run.
    """
    paid = json.loads((run_dir / "allocation.json").read_text())
    contributions = [person["contribution"] for person in paid["participants"]]
    curve = {float(width): accuracy for width, accuracy in paid["accuracy_by_width"].items()}
    table = Table("objective", "mean gain (MCG)", "spread (CGS)", "least gain", "Pearson", "widths")
    for objective in OBJECTIVES:
        chosen = allocate_widths(contributions, curve, objective)
        table.add_row(
            objective,
            f"{chosen.mcg:.3f}",
            f"{chosen.cgs:.4f}",
            f"{chosen.minimum_gain:.3f}",
            "undefined" if chosen.pearson is None else f"{chosen.pearson:.3f}",
            " ".join(f"{width:.2g}" for width in sorted(chosen.widths, reverse=True)),
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    auto_cli(main)
