"""Figures of the data and the training: the partition, the curves over the rounds, the time.

Each function takes the run and returns its picture, or None while the run lacks the data.
"""

import numpy as np

from aequa_lightning.report.axes import in_integers, in_percent, label_ends, name_rows, row_pitch, rows_height
from aequa_lightning.report.formatting import format_width, percent, score, score_name, short_names, span
from aequa_lightning.report.records import RunRecord
from aequa_lightning.report.style import CATEGORIES, COLUMN, LIGHT, POINTS, Picture, new_figure, width_role

_NAMED = 30  # classes up to which their names fit below the partition
_WIDE = 20  # classes beyond which the partition needs both columns of a paper


def training(run: RunRecord) -> Picture | None:
    """Draw the validation accuracy of every evaluated width over the rounds, and the best standalone accuracy."""
    widths = sorted({width for r in run.rounds for width in r.accuracy_by_width})
    if not widths:
        return None
    figure, axes = new_figure(height=2.7)
    ends = []
    for index, width in enumerate(widths):
        measured = [(r.number, r.accuracy_by_width[width]) for r in run.rounds if width in r.accuracy_by_width]
        numbers, accuracies = zip(*measured, strict=True)
        colour = LIGHT[width_role(index / max(len(widths) - 1, 1))]
        axes.plot(numbers, accuracies, color=colour, marker="o" if len(numbers) == 1 else "", ms=3, clip_on=False)
        ends.append((accuracies[-1], format_width(width), colour))
    best = max((p.standalone for p in run.participants if p.standalone is not None), default=None)
    if best is not None:
        axes.axhline(
            best, color=LIGHT["orange"], lw=0.9, ls=(0, (4, 3)), zorder=1, label=f"best standalone {score_name()}"
        )
        figure.legend(loc="outside lower center", handlelength=2.2)
    axes.set(xlabel="round", ylabel=f"{score_name()} (validation)")
    in_integers(axes.xaxis)
    in_percent(axes.yaxis)
    # The first and the last width before those between.
    label_ends(axes, [ends[-1], ends[0], *ends[-2:0:-1]] if len(ends) > 1 else ends)
    last = run.rounds[-1].accuracy_by_width
    reached = [f"width {format_width(width)} {score(last.get(width))}" for width in (widths[0], widths[-1])]
    alt = (
        f"Validation {score_name()} over {len(run.rounds)} rounds for {len(widths)} widths; in the last round "
        f"{' and '.join(reached)}."
    )
    return Picture("training", figure, alt)


def partition(run: RunRecord) -> Picture | None:
    """Draw who holds how many samples of which class, as dots whose area is the count, with totals as bars."""
    if run.truncated or not all(p.class_counts for p in run.participants):
        return None
    counts = np.array([p.class_counts for p in run.ranking])
    classes = np.arange(counts.shape[1])
    wide = len(classes) > _WIDE
    width = 2 * COLUMN + 0.2 if wide else COLUMN
    figure, axes = new_figure(height=rows_height(len(counts)), width=width)
    totals = axes.inset_axes((1.03, 0, 0.15 if wide else 0.3, 1), sharey=axes)
    rows = name_rows(axes, [p.name for p in run.ranking])
    # The largest dot just fits its cell; about half of a column's width is left for the cells.
    diameter = 0.9 * min(row_pitch(len(counts)), (0.75 if wide else 0.55) * width * POINTS / len(classes))
    for row, p, held in zip(rows, run.ranking, counts, strict=True):
        areas = diameter**2 * held / counts.max()
        axes.scatter(
            classes[held > 0], np.full((held > 0).sum(), row), s=areas[held > 0], color=LIGHT["blue"], lw=0,
            gid=f"who-{p.number}", clip_on=False,
        )  # fmt: skip
        (bar,) = totals.barh(row, p.samples, height=0.6, color=LIGHT["grey"])
        bar.set_gid(f"who-{p.number}")
    axes.set(xlabel="class", xlim=(-0.7, len(classes) - 0.3))
    names = run.start["data"].get("classes")
    if names and len(names) <= _NAMED:
        axes.set_xticks(classes, short_names(names), rotation=45, ha="right", rotation_mode="anchor")
    else:
        in_integers(axes.xaxis, most=10)
    in_integers(totals.xaxis, most=2)
    totals.set_xlabel("samples")
    totals.tick_params(left=False, labelleft=False)
    axes.spines["left"].set_visible(False)
    totals.spines["left"].set_visible(False)
    held = [str(number) for number in sorted((counts > 0).sum(axis=1))]
    samples = [str(number) for number in sorted(p.samples for p in run.participants)]
    alt = (
        f"Dot matrix of samples by participant and class. Participants hold {span(held)} of {len(classes)} classes and "
        f"{span(samples)} samples."
    )
    return Picture("partition", figure, alt, wide)


def time(run: RunRecord) -> Picture | None:
    """Draw the wall time of each round, split by phase."""
    phases = list(run.seconds_by_phase)
    if not phases:
        return None
    figure, axes = new_figure(height=2.1)
    numbers = [r.number for r in run.rounds]
    edges = [numbers[0] - 0.5, *(number + 0.5 for number in numbers)]
    base = np.zeros(len(numbers))
    for index, phase in enumerate(phases):
        top = base + [r.seconds_by_phase.get(phase, 0.0) for r in run.rounds]
        colour = LIGHT[CATEGORIES[index % len(CATEGORIES)]]
        axes.stairs(top, edges, baseline=base, fill=True, color=colour, label=phase, lw=0)
        base = top
    axes.set(xlabel="round", ylabel="seconds", xlim=(edges[0], edges[-1]), ylim=(0, 1.03 * base.max()))
    in_integers(axes.xaxis)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", handlelength=0.8, handleheight=0.8)
    shares = [f"{phase} {percent(seconds / base.sum())}" for phase, seconds in run.seconds_by_phase.items()]
    return Picture("time", figure, f"Wall time of {len(numbers)} rounds by phase: {', '.join(shares)}.")
