"""Compares a finished sweep with the paper's claims about fairness and accuracy.

Usage: python -m benchmarks.paper_table SWEEP_DIR [--reference aequa]

A row for each setting, means over seeds: the reference's correlation on the test part and on the validation part, by
which it pays; "alone" is the correlation of what participants reach alone on one part with the same on the other, which
bounds what any payment by validation can reach on the test part; then the best participant's test accuracy, the best
rival's and its name. Rivals are all mechanisms but those whose names begin with the reference's. The end says how often
each mechanism comes first: of many that are alike the best is seldom one in particular.
"""

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from aequa_lightning.rewards.allocation.fairness import pearson
from aequa_lightning.sweep.results import metrics_of

FAIR = 0.98

# What the runs of one setting and seed say, by mechanism.
Cells = dict[str, dict]


def read(folder: Path) -> dict[tuple[str, ...], list[Cells]]:
    """Return for each setting one group of cells a seed, without groups that are not finished."""
    found: dict[tuple[str, ...], dict[str, Cells]] = {}
    mechanisms = set()
    for path in sorted(folder.glob("cells/*/*/*/*/*/result.json")):
        *setting, mechanism, seed = path.parent.relative_to(folder / "cells").parts
        allocation = json.loads((path.parent / "allocation.json").read_text())
        found.setdefault(tuple(setting), {}).setdefault(seed, {})[mechanism] = allocation
        mechanisms.add(mechanism)
    complete = {
        setting: [cells for cells in seeds.values() if cells.keys() == mechanisms] for setting, seeds in found.items()
    }
    return {setting: groups for setting, groups in complete.items() if groups}


def mean(values: Iterable[float | None]) -> float:
    """Return the mean of those that are defined."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else float("nan")


def agreement(allocation: dict) -> float | None:
    """Return the correlation of the accuracies alone on the two parts."""
    rows = allocation["participants"]
    return pearson([row["accuracy"] - row["gain"] for row in rows], [row["standalone_test"] for row in rows])


def main(folder: Path, reference: str) -> None:
    """Print the rows and the counts."""
    header = f"{'setting':34} {'seeds':>5} {'test':>6} {'valid.':>6} {'alone':>6} {'best':>6} {'rival':>6}  rival"
    print(header)
    fair_validation = fair_test = wins = 0
    first: Counter[str] = Counter()
    behind = []
    settings = read(folder)
    for setting, groups in settings.items():
        own = [metrics_of(cells[reference]) for cells in groups]
        test, validation = (mean(one[key] for one in own) for key in ("pearson_test", "pearson"))
        rivals = {
            name: mean(metrics_of(cells[name])["best_test"] for cells in groups)
            for name in groups[0]
            if not name.startswith(reference)
        }
        rival = max(rivals, key=rivals.__getitem__)
        best = mean(one["best_test"] for one in own)
        alone = mean(agreement(cells[reference]) for cells in groups)
        name = "/".join(part for part in setting if part != "-")
        figures = f"{test:6.3f} {validation:6.3f} {alone:6.3f} {100 * best:6.1f} {100 * rivals[rival]:6.1f}"
        print(f"{name:34} {len(groups):5} {figures}  {rival}")
        fair_test += test >= FAIR
        fair_validation += validation >= FAIR
        wins += best >= rivals[rival]
        first[reference if best >= rivals[rival] else rival] += 1
        behind.append(100 * (rivals[rival] - best))
    count = len(settings)
    print(f"Pearson >= {FAIR}: {fair_validation} of {count} on the validation part, {fair_test} on the test part")
    print(f"best participant at or above the best rival's: {wins} of {count}")
    print(f"the best rival's lead over it, in points: median {statistics.median(behind):.1f}, most {max(behind):.1f}")
    print("whose best participant is the best: " + ", ".join(f"{name} {times}" for name, times in first.most_common()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reference", default="aequa")
    main(**vars(parser.parse_args()))
