"""The figures of several runs side by side: one colour and one marker a run."""

import hashlib
import os
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aequa_lightning.report.axes import in_integers, in_percent
from aequa_lightning.report.formatting import coefficient, points, score, score_name
from aequa_lightning.report.overlap import set_markers_apart
from aequa_lightning.report.quantities import title
from aequa_lightning.report.records import AllocationRecord, RunRecord
from aequa_lightning.report.style import CATEGORIES, LIGHT, MARKERS, Picture, new_figure
from aequa_lightning.runtime.terminal import printable

_SHORT = 24  # characters of a run's name up to which two stand side by side in a legend
_MARKS = 8  # markers along a curve
_SIZE = 3.8  # diameter of a marker in points
_TITLED, _LONGEST = 3, 120  # runs and bytes in the name of a page

_Series = Sequence[tuple[float, float]]


def run_names(runs: Sequence[RunRecord]) -> list[str]:
    """Return the shortest ends of the runs' paths that tell them apart.

    Example:
        >>> from pathlib import Path
        >>> folders = [Path("/a/seed1/aequa"), Path("/a/seed2/aequa")]
        >>> run_names([RunRecord(folder, {}, (), ()) for folder in folders])
        ['seed1/aequa', 'seed2/aequa']
    """
    parts = [run.folder.resolve().parts for run in runs]
    depth = 1
    while len({p[-depth:] for p in parts}) < len({*parts}):
        depth += 1
    return [printable("/".join(p[-depth:])) for p in parts]


def comparison_name(runs: Sequence[RunRecord]) -> str:
    """Return the name of the page that compares these runs: other runs give another one.

    It holds the names of the first runs. Where these do not tell the whole set, a digest of all folders follows.

    Example:
        >>> from pathlib import Path
        >>> def named(*folders):
        ...     return comparison_name([RunRecord(Path(folder), {}, (), ()) for folder in folders])
        >>> named("/runs/demo", "/runs/mine")
        'comparison-demo-vs-mine'
        >>> named("/runs/demo", "/others/mine").startswith("comparison-demo-vs-mine-")
        True
    """
    folders = [run.folder.resolve() for run in runs]
    names = [folder.name for folder in folders]
    name = "comparison-" + "-vs-".join(names[:_TITLED])
    told = len({folder.parent for folder in folders}) == 1 and len(names) <= _TITLED and "-vs-" not in "".join(names)
    if told and len(os.fsencode(name)) <= _LONGEST:
        return name
    digest = hashlib.sha256(b"\0".join(map(os.fsencode, folders))).hexdigest()
    return f"{os.fsdecode(os.fsencode(name)[:_LONGEST])}-{digest[:8]}"


def fairness(runs: Sequence[RunRecord]) -> Picture | None:
    """Draw standalone against received accuracy of every participant of every run that has allocated."""
    paid = [
        [(p.standalone, p.received) for p in run.participants if p.standalone is not None and p.received is not None]
        for run in runs
    ]
    if not any(paid):
        return None
    figure, axes = _overlay(runs, paid, joined=False)
    low = min(value for series in paid for pair in series for value in pair)
    high = max(value for series in paid for pair in series for value in pair)
    axes.plot([low, high], [low, high], color=LIGHT["grey"], lw=0.9, ls=(0, (4, 3)), zorder=1)
    axes.set(xlabel=f"standalone {score_name()}", ylabel=f"received {score_name()}")
    in_percent(axes.xaxis, axes.yaxis)
    set_markers_apart(axes, diameter=_SIZE)
    found = "; ".join(f"{name}: Pearson {coefficient(allocation.pearson)}" for name, allocation in _allocations(runs))
    return Picture("fairness", figure, f"Standalone against received {score_name()} of every participant. {found}.")


def gains(runs: Sequence[RunRecord]) -> Picture | None:
    """Draw mean collaboration gain against its spread, one point a run: right and low is better."""
    measured = [_gains(run) for run in runs]
    if not any(measured):
        return None
    figure, axes = _overlay(runs, measured, joined=False)
    axes.set(xlabel=f"{title('mcg')}, points", ylabel=f"{title('cgs')}, points")
    # From zero, for what counts is the ratio of the two.
    axes.set(xlim=(min(0.0, axes.get_xlim()[0]), None), ylim=(0, None))
    in_percent(axes.xaxis, axes.yaxis, unit="")
    set_markers_apart(axes, diameter=_SIZE)
    found = "; ".join(
        f"{name}: mean {points(allocation.mcg)}, spread {points(allocation.cgs, sign=False)}"
        for name, allocation in _allocations(runs)
    )
    return Picture("gains", figure, f"Mean gain against spread of gains in points. {found}.")


def accuracy_by_width(runs: Sequence[RunRecord]) -> Picture | None:
    """Draw every run's curve of accuracy against width."""
    curves = [list(run.allocation.accuracy_by_width.items()) if run.allocation else [] for run in runs]
    if not any(curves):
        return None
    figure, axes = _overlay(runs, curves, joined=True)
    axes.set(xlabel="width", ylabel=f"{score_name()} (validation)")
    in_percent(axes.yaxis)
    found = "; ".join(
        f"{name}: {score(allocation.accuracy_by_width[max(allocation.accuracy_by_width)])} at full width"
        for name, allocation in _allocations(runs)
    )
    return Picture("accuracy-by-width", figure, f"Validation {score_name()} against width. {found}.")


def training(runs: Sequence[RunRecord]) -> Picture | None:
    """Draw the accuracy of every run's full width over its rounds."""
    curves = [
        [(r.number, r.accuracy_by_width[max(r.accuracy_by_width)]) for r in run.rounds if r.accuracy_by_width]
        for run in runs
    ]
    if not any(curves):
        return None
    figure, axes = _overlay(runs, curves, joined=True)
    axes.set(xlabel="round", ylabel=f"{score_name()} at full width (validation)")
    in_integers(axes.xaxis)
    in_percent(axes.yaxis)
    found = "; ".join(
        f"{name}: {score(curve[-1][1])} after round {curve[-1][0]}"
        for name, curve in zip(run_names(runs), curves, strict=True)
        if curve
    )
    return Picture("training", figure, f"Validation {score_name()} of the full width over the rounds. {found}.")


def _gains(run: RunRecord) -> _Series:
    allocation = run.allocation
    if allocation is None or allocation.mcg is None or allocation.cgs is None:
        return []
    return [(allocation.mcg, allocation.cgs)]


COMPARISONS: Sequence[Callable[[Sequence[RunRecord]], Picture | None]] = (fairness, gains, accuracy_by_width, training)


def _overlay(runs: Sequence[RunRecord], series: Sequence[_Series], *, joined: bool) -> tuple[Figure, Axes]:
    """Draw one series of points a run, ``joined`` to a curve or not, in the run's colour and marker."""
    names = run_names(runs)
    columns = 2 if max(map(len, names)) <= _SHORT else 1
    figure, axes = new_figure(height=2.5 + 0.15 * -(-len(runs) // columns))
    for number, drawn in enumerate(series):
        if drawn:
            axes.plot(
                *zip(*drawn, strict=True),
                color=LIGHT[CATEGORIES[number % len(CATEGORIES)]],
                # Shifted at each turn of the colours, so that 36 runs differ.
                marker=MARKERS[(number + number // len(CATEGORIES)) % len(MARKERS)],
                ls="-" if joined else "",
                markevery=max(len(drawn) // _MARKS, 1) if joined else None,
                ms=_SIZE,
                mec=LIGHT["paper"],
                mew=0.4,
                gid=f"who-{number}",
            )
    # Named again: matplotlib itself leaves out names that begin with an underscore.
    labels = [names[number] for number, drawn in enumerate(series) if drawn]
    figure.legend(axes.lines[: len(labels)], labels, loc="outside lower center", ncols=columns)
    return figure, axes


def _allocations(runs: Sequence[RunRecord]) -> list[tuple[str, AllocationRecord]]:
    """Return the allocations of the runs that have one, with the runs' names."""
    return [(name, run.allocation) for name, run in zip(run_names(runs), runs, strict=True) if run.allocation]
