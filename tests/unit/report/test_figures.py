"""The figures show the run's numbers, each participant's own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.artist import Artist
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from aequa_lightning.report import RunRecord, comparison, read_run, reward_figures, training_figures
from aequa_lightning.report.axes import label_ends
from aequa_lightning.report.overlap import set_apart
from aequa_lightning.report.style import LIGHT, POINTS, Picture, house_style, new_figure
from tests.helpers.fake_run import write_fake_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return read_run(write_fake_run(tmp_path_factory.mktemp("runs") / "run", participants=12, rounds=5))


def who(picture: Picture | None, number: int, kind: type[Artist]) -> list[Artist]:
    """Return the artists of one kind that stand for a participant."""
    assert picture is not None
    axes = [axes for top in picture.figure.axes for axes in (top, *top.child_axes)]
    artists = [artist for each in axes for artist in each.get_children() if isinstance(artist, kind)]
    return [artist for artist in artists if artist.get_gid() == f"who-{number}"]


def test_fairness_shows_each_participant_on_validation_and_test(run: RunRecord) -> None:
    picture = reward_figures.fairness(run)
    for p in run.participants:
        drawn = {(line.get_xdata()[0], line.get_ydata()[0]) for line in who(picture, p.number, Line2D)}
        assert drawn == {(p.contribution, p.received), (p.standalone_test, p.received_test)}


def test_fairness_by_another_measure_compares_it_with_no_accuracy(run: RunRecord) -> None:
    paid = replace(run, paid_by="fedsv")
    picture = reward_figures.fairness(paid)
    for p in paid.participants:
        assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in who(picture, p.number, Line2D)] == [
            (p.contribution, p.received)
        ]
    assert picture is not None
    (axes,) = picture.figure.axes
    assert len(axes.lines) == len(paid.participants)
    assert axes.get_xlabel() == "contribution (fedsv)"


def test_models_of_ones_own_have_no_target(run: RunRecord) -> None:
    own = replace(run, participants=tuple(replace(p, width=1.0) for p in run.participants))
    picture = reward_figures.fairness(own)
    assert picture is not None
    labels = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert [label.split(",")[0] for label in labels] == ["validation", "test", "received = standalone"]


def test_a_single_width_makes_no_curve(run: RunRecord) -> None:
    assert run.allocation is not None
    single = replace(run, allocation=replace(run.allocation, accuracy_by_width={1.0: 0.5}))
    assert reward_figures.accuracy_by_width(single) is None


def test_target_line_has_the_slope_and_passes_through_the_mean(run: RunRecord) -> None:
    picture = reward_figures.fairness(run)
    assert picture is not None
    assert run.allocation is not None
    (line,) = [line for line in picture.figure.axes[0].lines if str(line.get_label()).startswith("target")]
    x, y = line.get_xdata(), line.get_ydata()
    assert (y[1] - y[0]) / (x[1] - x[0]) == pytest.approx(run.allocation.slope)
    mean_alone = np.mean([p.contribution for p in run.participants])
    assert np.interp(mean_alone, x, y) == pytest.approx(np.mean([p.received for p in run.participants]))


def test_the_target_line_and_all_points_lie_within_the_axes(run: RunRecord) -> None:
    assert run.allocation is not None
    steep = replace(run, allocation=replace(run.allocation, slope=3.0))
    picture = reward_figures.fairness(steep)
    assert picture is not None
    axes = picture.figure.axes[0]
    for line in axes.lines:
        if len(line.get_xdata()) == 0:
            continue
        (left, low), (right, high) = line.get_xydata().min(axis=0), line.get_xydata().max(axis=0)
        assert axes.get_ylim()[0] <= low <= high <= axes.get_ylim()[1], line.get_label()
        assert axes.get_xlim()[0] <= left <= right <= axes.get_xlim()[1], line.get_label()
    (target,) = [line for line in axes.lines if str(line.get_label()).startswith("target")]
    assert max(target.get_ydata()) <= 1 + 1e-9


def test_runs_with_the_same_rewards_are_all_seen(run: RunRecord) -> None:
    picture = comparison.fairness([run, run, run])
    assert picture is not None
    axes = picture.figure.axes[0]
    drawn = [line for number in range(3) for line in who(picture, number, Line2D)]
    places = axes.transData.transform(np.concatenate([line.get_xydata() for line in drawn]))
    gaps = np.hypot(*(places[:, None] - places[None]).T) + 1e9 * np.eye(len(places))
    assert gaps.min() * POINTS / picture.figure.dpi > 2.5  # of a marker's 3.8 points


def test_points_are_set_apart_by_no_more_than_it_takes() -> None:
    random = np.random.default_rng(0)
    places = np.concatenate([random.uniform(0, 100, (40, 2)), np.full((5, 2), 50.0), [[500.0, 0.0]]])
    moved = set_apart(places, 4.0)
    gaps = np.hypot(*(moved[:, None] - moved[None]).T) + 1e9 * np.eye(len(moved))
    assert gaps.min() > 3.5
    assert np.hypot(*(moved - places).T).max() < 16
    assert moved[-1].tolist() == [500.0, 0.0]
    assert np.array_equal(set_apart(moved[:1], 4.0), moved[:1])


def test_gains_are_bars_from_the_largest_contributor_down(run: RunRecord) -> None:
    picture = reward_figures.gains(run)
    bars = [who(picture, p.number, Rectangle)[0] for p in run.ranking]
    assert [bar.get_width() for bar in bars] == [p.gain for p in run.ranking]
    heights = [bar.get_y() for bar in bars]
    assert heights == sorted(heights, reverse=True)


def test_losses_have_another_colour(run: RunRecord, tmp_path: Path) -> None:
    losing = write_fake_run(tmp_path / "run", participants=3, rounds=1)
    text = (losing / "allocation.json").read_text().replace('"gain": ', '"gain": -')
    (losing / "allocation.json").write_text(text)
    (bar,) = who(reward_figures.gains(read_run(losing)), 0, Rectangle)
    assert to_hex(bar.get_facecolor()) == LIGHT["orange"]
    (bar,) = who(reward_figures.gains(run), 0, Rectangle)
    assert to_hex(bar.get_facecolor()) == LIGHT["blue"]


def test_strokes_mark_the_widths_received(run: RunRecord) -> None:
    picture = reward_figures.accuracy_by_width(run)
    for p in run.participants:
        (stroke,) = who(picture, p.number, Line2D)
        assert set(stroke.get_xdata()) == {p.width}


def test_areas_of_dots_are_counts(run: RunRecord) -> None:
    picture = training_figures.partition(run)
    scale = set()
    for p in run.participants:
        (dots,) = who(picture, p.number, Artist)[:1]
        held = {int(x): area for (x, _), area in zip(dots.get_offsets(), dots.get_sizes(), strict=True)}
        assert set(held) == {c for c, count in enumerate(p.class_counts) if count}
        scale |= {round(area / p.class_counts[c], 9) for c, area in held.items()}
        (bar,) = who(picture, p.number, Rectangle)
        assert bar.get_width() == p.samples
    assert len(scale) == 1


def test_classes_have_the_names_that_the_data_give_them(run: RunRecord) -> None:
    names = [f"a kind of {number}" for number in range(10)]
    named = replace(run, start={**run.start, "data": {**run.start["data"], "classes": names}})
    picture = training_figures.partition(named)
    assert picture is not None
    shown = [label.get_text() for label in picture.figure.axes[0].get_xticklabels()]
    assert shown == [str(number) for number in range(10)]  # what all begin with is left out, as of participants
    other = replace(run, start={**run.start, "data": {**run.start["data"], "classes": ["ash", "birch", *names[2:]]}})
    picture = training_figures.partition(other)
    assert picture is not None
    assert [label.get_text() for label in picture.figure.axes[0].get_xticklabels()][:2] == ["ash", "birch"]


def test_training_has_a_curve_for_each_width(run: RunRecord) -> None:
    picture = training_figures.training(run)
    assert picture is not None
    curves = [tuple(line.get_ydata()) for line in picture.figure.axes[0].lines]
    for width in run.rounds[0].accuracy_by_width:
        assert tuple(r.accuracy_by_width[width] for r in run.rounds) in curves


def test_phases_stack_up_to_the_time_of_the_round(run: RunRecord) -> None:
    picture = training_figures.time(run)
    assert picture is not None
    tops = picture.figure.axes[0].patches[-1].get_data().values
    assert tops == pytest.approx([r.seconds for r in run.rounds])


def test_labels_of_curves_that_end_together_do_not_overlap() -> None:
    with house_style():
        _, axes = new_figure(height=2.0)
        axes.set_ylim(0, 1)
        label_ends(axes, [(0.9, "first", "#000000"), (0.91, "second", "#000000"), (0.5, "third", "#000000")])
    assert [text.get_text() for text in axes.texts] == ["first", "third"]


def test_comparison_draws_every_participant_of_every_run(run: RunRecord, tmp_path: Path) -> None:
    other = read_run(write_fake_run(tmp_path / "other", participants=40, rounds=2, seed=1))
    stopped = read_run(write_fake_run(tmp_path / "stopped", participants=2, rounds=2, finished=False))
    picture = comparison.fairness([run, stopped, other])
    for number, each in ((0, run), (2, other)):
        (points,) = who(picture, number, Line2D)
        assert points.get_markevery() is None
        # Markers that would cover each other are moved by a little.
        assert list(points.get_ydata()) == pytest.approx([p.received for p in each.participants], abs=0.05)
        assert list(points.get_xdata()) == pytest.approx([p.standalone for p in each.participants], abs=0.05)
    assert who(picture, 1, Line2D) == []
    assert len(who(comparison.training([run, stopped, other]), 1, Line2D)) == 1


def test_runs_of_a_comparison_look_different() -> None:
    runs = [RunRecord(Path(f"/runs/{i}"), {}, (), ()) for i in range(36)]
    with house_style():
        _, axes = comparison._overlay(runs, [[(0.0, 0.0)]] * 36, joined=False)
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 36
