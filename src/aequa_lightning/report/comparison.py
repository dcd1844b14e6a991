"""The figures of several runs side by side: one colour and one marker a run."""

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes

from aequa_lightning.report.axes import in_integers, in_percent
from aequa_lightning.report.run import Run
from aequa_lightning.report.style import CATEGORIES, LIGHT, MARKERS, Picture, new_figure
from aequa_lightning.report.words import coefficient, percent

_SHORT = 24  # characters of a run's name up to which two stand side by side in a legend


def run_names(runs: Sequence[Run]) -> list[str]:
    """Return the shortest ends of the runs' paths that tell them apart.

    Example:
        >>> from pathlib import Path
        >>> folders = [Path("/a/seed1/aequa"), Path("/a/seed2/aequa")]
        >>> run_names([Run(folder, {}, (), ()) for folder in folders])
        ['seed1/aequa', 'seed2/aequa']
    """
    parts = [run.folder.resolve().parts for run in runs]
    depth = 1
    while len({p[-depth:] for p in parts}) < len({*parts}):
        depth += 1
    return ["/".join(p[-depth:]) for p in parts]


def fairness(runs: Sequence[Run]) -> Picture | None:
    """Draw contribution against received accuracy of every run that has allocated."""
    return _overlay(
        "fairness",
        runs,
        points=[[(p.contribution, p.received) for p in run.participants if p.received is not None] for run in runs],
        labels=("accuracy alone (contribution)", "accuracy received"),
        identity=True,
        alt="; ".join(f"{n}: Pearson {coefficient(r.allocation.pearson)}" for n, r in _named(runs) if r.allocation),
    )


def accuracy_by_width(runs: Sequence[Run]) -> Picture | None:
    """Draw every run's curve of accuracy against width."""
    return _overlay(
        "accuracy-by-width",
        runs,
        points=[list(run.allocation.accuracy_by_width.items()) if run.allocation else [] for run in runs],
        labels=("width", "accuracy (validation)"),
        line=True,
        alt="; ".join(f"{n}: {percent(r.full_accuracy)} at full width" for n, r in _named(runs)),
    )


def training(runs: Sequence[Run]) -> Picture | None:
    """Draw the accuracy of every run's full width over its rounds."""
    return _overlay(
        "training",
        runs,
        points=[
            [(r.number, r.accuracy_by_width[max(r.accuracy_by_width)]) for r in run.rounds if r.accuracy_by_width]
            for run in runs
        ],
        labels=("round", "accuracy at full width (validation)"),
        line=True,
        alt="; ".join(f"{n}: {len(r.rounds)} rounds, {percent(r.full_accuracy)}" for n, r in _named(runs)),
    )


def gains(runs: Sequence[Run]) -> Picture | None:
    """Draw mean collaboration gain against its spread, one point a run: right and low is better."""
    return _overlay(
        "gains",
        runs,
        points=[[(run.allocation.mcg, run.allocation.cgs)] if run.allocation else [] for run in runs],
        labels=("mean gain (MCG), points", "spread of gains (CGS), points"),
        unit="",
        alt="; ".join(
            f"{n}: mean gain {100 * r.allocation.mcg:.1f}, spread {100 * r.allocation.cgs:.1f} points"
            for n, r in _named(runs)
            if r.allocation
        ),
    )


COMPARISONS: Sequence[Callable[[Sequence[Run]], Picture | None]] = (fairness, gains, accuracy_by_width, training)


def _overlay(
    name: str,
    runs: Sequence[Run],
    *,
    points: Sequence[Sequence[tuple[float | None, float | None]]],
    labels: tuple[str, str],
    alt: str,
    line: bool = False,
    identity: bool = False,
    unit: str = "%",
) -> Picture | None:
    """Draw one series a run, in the run's colour and marker; None where no run has any point."""
    if not any(points):
        return None
    names = run_names(runs)
    columns = 2 if max(map(len, names)) <= _SHORT else 1
    figure, axes = new_figure(height=2.5 + 0.15 * -(-len(runs) // columns))
    for number, series in enumerate(points):
        if series:
            axes.plot(
                *zip(*series, strict=True),
                color=LIGHT[CATEGORIES[number % len(CATEGORIES)]],
                marker=MARKERS[(number + number // len(CATEGORIES)) % len(MARKERS)],
                ls="-" if line else "",
                markevery=max(len(series) // 8, 1),
                ms=3.5,
                mec=LIGHT["paper"],
                mew=0.4,
                gid=f"who-{number}",
                label=names[number],
            )
    figure.legend(loc="outside lower center", ncols=columns)
    if identity:
        _identity(axes)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    for axis, text in zip((axes.xaxis, axes.yaxis), labels, strict=True):
        if text == "round":
            in_integers(axis)
        elif text != "width":
            in_percent(axis, unit=unit)
    return Picture(name, figure, f"{labels[1]} against {labels[0]}. {alt}.")


def _identity(axes: Axes) -> None:
    low, high = min(axes.get_xlim()[0], axes.get_ylim()[0]), max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([low, high], [low, high], color=LIGHT["grey"], lw=0.8, ls=(0, (4, 3)), zorder=1)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")


def _named(runs: Sequence[Run]) -> list[tuple[str, Run]]:
    return list(zip(run_names(runs), runs, strict=True))
