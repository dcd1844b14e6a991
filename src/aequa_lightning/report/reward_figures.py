"""Figures of contributions and rewards.

Each function takes the run and returns its picture, or None while the run lacks the data. Artists that stand for a
participant carry the id ``who-NUMBER``; the page ties them to that participant's row.
"""

from collections import Counter
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from aequa_lightning.report.axes import in_percent, name_rows, rows_height
from aequa_lightning.report.formatting import coefficient, format_width, points, ratio, score, score_name, span
from aequa_lightning.report.quantities import title
from aequa_lightning.report.records import AllocationRecord, RunRecord
from aequa_lightning.report.style import CATEGORIES, LIGHT, MARKERS, Picture, new_figure

_Look = dict[str, Any]


def fairness(run: RunRecord) -> Picture | None:
    """Draw contribution against received accuracy; where both are accuracies, with lines of no gain and of targets."""
    if run.allocation is None:
        return None
    return _against_accuracy(run, run.allocation) if run.paid_by_accuracy else _against_score(run, run.allocation)


def _against_score(run: RunRecord, allocation: AllocationRecord) -> Picture:
    brought = np.array([p.contribution for p in run.participants], dtype=float)
    received = np.array([p.received for p in run.participants], dtype=float)
    figure, axes = new_figure(height=2.3)
    look: _Look = {"marker": "o", "ls": "", "ms": 4.8, "color": LIGHT["blue"], "mec": LIGHT["paper"], "mew": 0.5}
    _mark(axes, run, brought, received, look)
    axes.set(xlabel=f"contribution ({run.paid_by})", ylabel=f"received {score_name()}")
    axes.set_title(f"validation, r = {coefficient(allocation.pearson)}", loc="right", size=6.5, pad=3)
    in_percent(axes.yaxis)
    alt = (
        f"Scatter of the contribution by {run.paid_by} against received {score_name()} for {len(brought)} "
        f"participants. Pearson coefficient {coefficient(allocation.pearson)} on validation data."
    )
    return Picture("fairness", figure, alt)


def _against_accuracy(run: RunRecord, allocation: AllocationRecord) -> Picture:
    alone = np.array([p.contribution for p in run.participants], dtype=float)
    received = np.array([p.received for p in run.participants], dtype=float)
    # NaN without a test part: matplotlib draws nothing.
    alone_test = np.array([p.standalone_test for p in run.participants], dtype=float)
    received_test = np.array([p.received_test for p in run.participants], dtype=float)

    figure, axes = new_figure(height=2.7)
    tested: _Look = {"marker": "o", "ls": "", "ms": 4.2, "mfc": "none", "mec": LIGHT["orange"], "mew": 0.8}
    paid: _Look = {"marker": "o", "ls": "", "ms": 4.8, "color": LIGHT["blue"], "mec": LIGHT["paper"], "mew": 0.5}
    _mark(axes, run, alone_test, received_test, tested)
    _mark(axes, run, alone, received, paid | {"zorder": 3})

    left, right = np.nanmin([alone, alone_test]), np.nanmax([alone, alone_test])
    low, top = min(left, np.nanmin([received, received_test])), np.nanmax([received, received_test])
    if not run.own_models:
        level = float(np.mean(received - allocation.slope * alone))
        # No target lies above 100 %.
        reach = np.array([alone.min(), min(alone.max(), (1 - level) / max(allocation.slope, 1e-9))])
        targets = level + allocation.slope * reach
        label = f"target, slope {ratio(allocation.slope, digits=2)}"
        axes.plot(reach, targets, color=LIGHT["blue"], lw=0.9, zorder=2, label=label)
        top, low = max(top, targets[-1]), min(low, targets[0])
    margin = 0.05 * max(top - low, 0.05)
    equal = [left - margin, min(top, right) + margin]
    axes.plot(equal, equal, color=LIGHT["grey"], lw=0.9, ls=(0, (4, 3)), zorder=1, label="received = standalone")
    lines = len(axes.get_legend_handles_labels()[0])
    axes.plot([], [], label=f"validation, r = {coefficient(allocation.pearson)}", **paid)
    if not np.isnan(received_test).all():
        axes.plot([], [], label=f"test, r = {coefficient(allocation.pearson_test)}", **tested)
    handles, labels = axes.get_legend_handles_labels()
    order = [*range(lines, len(handles)), *range(lines)]
    figure.legend([handles[i] for i in order], [labels[i] for i in order], loc="outside lower center", ncols=2)
    axes.set(xlim=(left - margin, right + margin), ylim=(low - margin, top + margin))
    axes.set(xlabel=f"standalone {score_name()} (contribution)", ylabel=f"received {score_name()}")
    in_percent(axes.xaxis, axes.yaxis)
    alt = (
        f"Scatter of standalone against received {score_name()} for {len(alone)} participants. Pearson coefficient "
        f"{coefficient(allocation.pearson)} on validation, {coefficient(allocation.pearson_test)} on test data. "
        f"{int((received >= alone).sum())} of {len(alone)} lie on or above the line of equality."
    )
    return Picture("fairness", figure, alt)


def _mark(axes: Axes, run: RunRecord, brought: NDArray[np.float64], received: NDArray[np.float64], look: _Look) -> None:
    """Draw a mark for each participant, or a single series for too many of them."""
    if run.truncated:
        axes.plot(brought, received, **look | {"ms": 2.0, "mew": 0})
        return
    for number, (x, y) in enumerate(zip(brought, received, strict=True)):
        axes.plot(x, y, clip_on=False, gid=f"who-{number}", **look)


def gains(run: RunRecord) -> Picture | None:
    """Draw each participant's gain, sorted by contribution, with the mean and the band of one spread around it."""
    allocation = run.allocation
    if allocation is None or allocation.mcg is None or allocation.cgs is None or run.truncated:
        return None
    figure, axes = new_figure(height=rows_height(len(run.participants)))
    mean, spread = allocation.mcg, allocation.cgs
    axes.axvspan(mean - spread, mean + spread, color=LIGHT["blue"], alpha=0.15, lw=0)
    values = []
    for row, p in zip(name_rows(axes, [p.name for p in run.ranking]), run.ranking, strict=True):
        gain = p.gain or 0.0
        (bar,) = axes.barh(row, gain, height=0.6, color=LIGHT["blue" if gain >= 0 else "orange"])
        bar.set_gid(f"who-{p.number}")
        values.append(gain)
    axes.axvline(mean, color=LIGHT["ink"], lw=0.9)
    axes.axvline(0, color=LIGHT["muted"], lw=0.6)
    axes.set_title(f"mean gain {points(mean)}, spread {points(spread, sign=False)}", loc="right", size=6.5, pad=3)
    axes.set_xlabel(f"{title('gain')} in points")
    in_percent(axes.xaxis, unit="")
    alt = (
        f"Bars of the gain of {len(values)} participants, the largest contributor on top: "
        f"{span([points(gain) for gain in sorted(values)])} points, mean {points(mean)}, "
        f"standard deviation {points(spread, sign=False)}."
    )
    return Picture("gains", figure, alt)


def accuracy_by_width(run: RunRecord) -> Picture | None:
    """Draw the measured curve of accuracy against width, what is on offer, and who received which width."""
    allocation = run.allocation
    if allocation is None or len(allocation.accuracy_by_width) < 2:
        return None
    curve = allocation.accuracy_by_width
    offered = [w for w in curve if w in set(allocation.widths) - allocation.by_layer]
    filled = [w for w in curve if w in allocation.by_layer]
    passed = [w for w in curve if w not in set(allocation.widths)]
    trained = [w for w in run.start["model"]["widths"] if w in curve]
    figure, axes = new_figure(height=2.7)
    axes.plot(list(curve), list(curve.values()), color=LIGHT["blue"], lw=0.8, alpha=0.45, zorder=1)
    series: list[tuple[list[float], str, _Look]] = [
        (offered, "on offer", {"marker": "o", "ms": 2.8, "mew": 0, "color": LIGHT["blue"], "zorder": 3}),
        (filled, "on offer, layers differ", {"marker": "D", "ms": 2.2, "mew": 0, "color": LIGHT["green"], "zorder": 3}),
        (passed, "measured only", {"marker": "x", "ms": 2.8, "mew": 0.7, "color": LIGHT["grey"]}),
        (trained, "trained", {"marker": "o", "ms": 6, "mew": 0.7, "mfc": "none", "mec": LIGHT["ink"]}),
    ]
    for widths, label, look in series:
        if widths:
            axes.plot(widths, [curve[w] for w in widths], ls="", label=label, clip_on=False, **look)
    low, high = min(curve.values()), max(curve.values())
    height = max(high - low, 0.02)
    floor = low - 0.2 * height
    _mark_received(axes, run, floor, height)
    axes.plot([], [], "|", color=LIGHT["orange"], ms=5, mew=2, label="received by a participant")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.15))
    axes.set(xlabel="width", xlim=(min(curve) - 0.03, max(curve) + 0.02), ylim=(floor, high + 0.04 * height))
    axes.set_ylabel(f"{score_name()} (validation)")
    in_percent(axes.yaxis)
    alt = (
        f"Curve of validation {score_name()} against width: {score(curve[min(curve)])} at width "
        f"{format_width(min(curve))}, "
        f"{score(curve[max(curve)])} at width {format_width(max(curve))}; {len(curve)} widths measured, "
        f"{len(allocation.widths)} on offer."
    )
    return Picture("accuracy-by-width", figure, alt)


def _mark_received(axes: Axes, run: RunRecord, floor: float, height: float) -> None:
    """Draw who received which width: strokes that stand on each other, or one bar a width for too many of them."""
    held = Counter(p.width for p in run.participants if p.width is not None)
    most = max(held.values())
    look: _Look = {"color": LIGHT["orange"], "lw": 2, "solid_capstyle": "butt"}
    if run.truncated:
        for width, count in held.items():
            axes.plot([width] * 2, [floor, floor + 0.13 * height * count / most], **look)
        return
    stroke = height * min(0.06, 0.13 / most)
    stacked: Counter[float] = Counter()
    for p in run.participants:
        if p.width is not None:
            foot = floor + stroke * stacked[p.width]
            axes.plot([p.width] * 2, [foot, foot + 0.75 * stroke], gid=f"who-{p.number}", **look)
            stacked[p.width] += 1


def front(run: RunRecord) -> Picture | None:
    """Draw the Pareto front of mean gain against spread, and where the allocation lies."""
    if run.front is None or len(run.front.pairs) < 2:
        return None
    means, spreads = np.array(run.front.pairs).T
    figure, axes = new_figure(height=2.2)
    axes.plot(means, spreads, marker="o", ms=2.2, mew=0, lw=0.8, color=LIGHT["blue"], label="cannot be bettered")
    axes.plot(*run.front.chosen, marker="D", ms=5, mew=0, ls="", color=LIGHT["orange"], label="chosen", clip_on=False)
    axes.set(xlabel=f"{title('mcg')} in points", ylabel=title("cgs"))
    in_percent(axes.xaxis, axes.yaxis, unit="")
    axes.legend(loc="upper left")
    alt = (
        f"Pareto front of {len(means)} allocations: spread from {points(spreads.min(), sign=False)} to "
        f"{points(spreads.max(), sign=False)} points, mean gain from {points(means.min())} to {points(means.max())}. "
        f"Chosen: mean gain {points(run.front.chosen[0])}, spread {points(run.front.chosen[1], sign=False)}."
    )
    return Picture("front", figure, alt)


def contributions(run: RunRecord) -> Picture | None:
    """Draw every estimator's score of every participant, as a share of the estimator's largest."""
    if not run.scores or run.truncated:
        return None
    figure, axes = new_figure(height=rows_height(len(run.participants)) + 0.2)
    rows = name_rows(axes, [p.name for p in run.ranking])
    for index, (name, scores) in enumerate(run.scores.items()):
        largest = max(abs(score) for score in scores) or 1.0
        colour, marker = LIGHT[CATEGORIES[index % len(CATEGORIES)]], MARKERS[index % len(MARKERS)]
        look: _Look = {"color": colour, "marker": marker, "ms": 4, "mew": 0, "ls": ""}
        for row, p in zip(rows, run.ranking, strict=True):
            axes.plot(scores[p.number] / largest, row, clip_on=False, gid=f"who-{p.number}", **look)
        axes.plot([], [], label=name, **look)
    axes.grid(axis="y", color=LIGHT["rule"], lw=0.5)
    axes.set_axisbelow(True)
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), 1.03)
    axes.set_xlabel("score, as a share of the largest")
    in_percent(axes.xaxis)
    figure.legend(loc="outside lower center", ncols=min(len(run.scores), 4), handlelength=1)
    alt = f"Scores of {len(run.participants)} participants by {', '.join(run.scores)}, the largest contributor on top."
    return Picture("contributions", figure, alt)
