import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from aequa_lightning.report.style import house_style
from aequa_lightning.sweep.files import latex, markdown, write_tables
from aequa_lightning.sweep.matrix import Cell
from aequa_lightning.sweep.picture import picture
from aequa_lightning.sweep.results import METRICS, Result
from aequa_lightning.sweep.statistics import bootstrap_interval, holm, signed_rank_test
from aequa_lightning.sweep.table import compare, overall, rank, summarise
from aequa_lightning.sweep.terminal import means_table, ranks_table, settings_table

SEEDS = range(3)
# Best accuracy by setting, mechanism and seed.
BEST = {
    "even": {"ours": [0.80, 0.82, 0.84], "one": [0.80, 0.80, 0.80], "two": [0.70, 0.71, 0.72]},
    "skew": {"ours": [0.60, 0.61, 0.62], "one": [0.70, 0.70, 0.70], "two": [0.50, 0.55, 0.51]},
}


def results() -> list[Result]:
    found = []
    for partition, by_mechanism in BEST.items():
        for mechanism, values in by_mechanism.items():
            for seed, best in zip(SEEDS, values, strict=True):
                metrics: dict[str, float | None] = dict.fromkeys((metric.key for metric in METRICS), 0.1)
                metrics |= {
                    "best_test": best,
                    "cgs_test": 1 - best,
                    "pearson_test": None if mechanism == "one" else best,
                }
                found.append(Result(Cell("digits", partition, "-", mechanism, seed), metrics, seconds=1.0))
    return found


def test_means_and_deviations_are_numpys_and_the_best_is_marked() -> None:
    rows = {(row.setting[1], row.mechanism): row for row in summarise(results())}
    for (partition, mechanism), row in rows.items():
        entry, values = row.entries["best_test"], BEST[partition][mechanism]
        assert (entry.mean, entry.deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
        assert row.seeds == 3
    assert [name for name, row in rows.items() if row.entries["best_test"].best] == [("even", "ours"), ("skew", "one")]
    assert [name for name, row in rows.items() if row.entries["cgs_test"].best] == [("even", "ours"), ("skew", "one")]
    # Undefined is never the best; equal ones all are.
    assert [name for name, row in rows.items() if row.entries["pearson_test"].best] == [
        ("even", "ours"),
        ("skew", "ours"),
    ]
    assert all(row.entries["mean_test"].best for row in rows.values())


def test_ranks_are_averaged_over_the_settings_that_are_complete() -> None:
    ranks = rank(summarise(results()))
    assert {name: own["best_test"] for name, own in ranks.items()} == {"ours": 1.5, "one": 1.5, "two": 3.0}
    assert {name: own["pearson_test"] for name, own in ranks.items()} == {"ours": 1.0, "one": 3.0, "two": 2.0}
    incomplete = [one for one in results() if not (one.cell.partition == "skew" and one.cell.mechanism == "two")]
    ranks = rank(summarise(incomplete))
    assert {name: own["best_test"] for name, own in ranks.items()} == {"ours": 1.0, "one": 2.0, "two": 3.0}


def test_the_reference_is_compared_pair_by_pair() -> None:
    own = np.array([*BEST["even"]["ours"], *BEST["skew"]["ours"]])
    others = {name: np.array([*BEST["even"][name], *BEST["skew"][name]]) for name in ("one", "two")}
    p_values = [signed_rank_test(own - other) for other in others.values()]
    found = {(one.metric.key, one.mechanism): one for one in compare(results(), "ours")}
    for (name, other), adjusted in zip(others.items(), holm(p_values), strict=True):
        one = found["best_test", name]
        assert (one.pairs, one.wins, one.losses) == (6, (own > other).sum(), (own < other).sum())
        assert one.difference == pytest.approx((own - other).mean())
        assert one.interval == bootstrap_interval(own - other)
        assert one.adjusted == adjusted
        # A smaller spread is better.
        assert (found["cgs_test", name].wins, found["cgs_test", name].losses) == (one.wins, one.losses)
    assert ("pearson_test", "one") not in found  # nowhere defined


def test_the_mean_over_all_runs() -> None:
    means = overall(results())
    own = [*BEST["even"]["ours"], *BEST["skew"]["ours"]]
    found = means["ours"]["best_test"]
    assert found.entry.mean == pytest.approx(np.mean(own))
    assert found.interval == bootstrap_interval(own)
    assert (means["one"]["pearson_test"].entry.mean, means["one"]["pearson_test"].interval) == (None, None)


def defined_once() -> list[Result]:
    """Return the results, in which "ours" has a correlation for one seed of the first setting only."""
    return [
        Result(one.cell, {**one.metrics, "pearson_test": 0.99}, 1.0)
        if (one.cell.partition, one.cell.mechanism, one.cell.seed) == ("even", "ours", 1)
        else Result(one.cell, {**one.metrics, "pearson_test": None}, 1.0)
        if one.cell.mechanism == "ours"
        else one
        for one in results()
    ]


def test_a_figure_of_one_seed_says_so_and_is_neither_best_nor_first() -> None:
    rows = summarise(defined_once())
    (own,) = [row for row in rows if (row.setting[1], row.mechanism) == ("even", "ours")]
    entry = own.entries["pearson_test"]
    assert (entry.mean, entry.deviation, entry.count, entry.best) == (0.99, None, 1, False)
    assert "| ours | **82.0±2.0** | **10.0±0.0** | 0.990 (n=1) |" in markdown(rows)
    assert rank(rows)["ours"]["pearson_test"] > rank(rows)["two"]["pearson_test"]
    output = io.StringIO()
    Console(file=output, width=200).print(settings_table(rows, width=200))
    assert "0.990 (n=1)" in output.getvalue()
    assert "defined in that many of the seeds only" in output.getvalue()


def test_the_table_of_means_and_the_picture_show_the_same_figures() -> None:
    given = defined_once()
    output = io.StringIO()
    Console(file=output, width=200).print(means_table(overall(given)))
    lines = {words[0]: words for words in map(str.split, output.getvalue().splitlines()) if words}
    with house_style():
        panels = picture(given, reference="ours").axes
    place = [metric.key for metric in METRICS].index("pearson_test")
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    drawn = {round(line.get_ydata()[0]): line.get_xdata()[0] for line in panels[place].lines}
    heights = dict(zip(names, panels[0].get_yticks(), strict=True))
    assert drawn[heights["ours"]] == 0.99
    assert lines["ours"][1 + place : 3 + place] == ["0.990", "(n=1)"]
    assert [text.get_text() for text in panels[place].texts] == ["n = 1", "undefined"]
    for panel, metric in zip(panels, METRICS, strict=True):
        heading = panel.get_title().replace("\n", " ")
        assert (
            heading
            == f"{metric.title} {f'{metric.unit} ' if metric.unit else ''}{'→' if metric.largest_first else '←'}"
        )


@pytest.mark.parametrize("columns", [80, 120])
def test_every_table_fits_the_terminal_and_cuts_no_figure(columns: int) -> None:
    long = [
        Result(replace(one.cell, mechanism=f"{one.cell.mechanism}-training"), one.metrics, 1.0) for one in results()
    ]
    rows = summarise([*results(), *long])
    tables = [
        settings_table(rows, width=columns),
        means_table(overall([*results(), *long])),
        ranks_table(rank(rows), compare([*results(), *long], "ours"), "ours"),
    ]
    for table in tables:
        output = io.StringIO()
        Console(file=output, width=columns).print(table)
        text = output.getvalue()
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= columns
    shown = io.StringIO()
    Console(file=shown, width=columns).print(tables[0])
    assert ("82.0±2.0" in shown.getvalue()) == (columns == 120)
    assert "82.0" in shown.getvalue()


def test_the_files(tmp_path: Path) -> None:
    rows = summarise(results())
    write_tables(tmp_path, results(), rows, rank(rows), compare(results(), "ours"))
    text = markdown(rows)
    metrics = " | ".join(metric.title for metric in METRICS)
    assert text.splitlines()[0] == f"| data | partition | mechanism | {metrics} |"
    assert "| digits | even | ours | **82.0±2.0** | **10.0±0.0** | **0.820±0.020** |" in text
    assert "| digits | even | one | 80.0±0.0 | **10.0±0.0** | - |" in text
    assert text == (tmp_path / "table.md").read_text()
    tex = latex(rows)
    assert r"digits & even & ours & \textbf{82.0$\pm$2.0}" in tex
    assert tex.count(r"\midrule") == 2  # below the head and between the settings
    with (tmp_path / "results.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [float(row["best_test"]) for row in read] == [one.metrics["best_test"] for one in results()]
    assert {row["pearson_test"] for row in read if row["mechanism"] == "one"} == {""}
    with (tmp_path / "comparison.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(compare(results(), "ours"))


def test_the_interval_is_that_of_the_difference_also_where_less_is_better() -> None:
    found = {(one.metric.key, one.mechanism): one for one in compare(results(), "ours")}
    for name in ("one", "two"):
        low, high = found["best_test", name].interval
        assert found["cgs_test", name].interval == pytest.approx((-high, -low))


def test_a_figure_of_zero_is_compared_too() -> None:
    given = [Result(one.cell, {**one.metrics, "mcg_test": 0.0}, one.seconds) for one in results()]
    assert {one.pairs for one in compare(given, "ours") if one.metric.key == "mcg_test"} == {6}


def test_the_tables_hold_every_figure_under_its_name(tmp_path: Path) -> None:
    rows, comparisons = summarise(results()), compare(results(), "ours")
    ranks = rank(rows)
    write_tables(tmp_path, results(), rows, ranks, comparisons)

    def read(name: str) -> list[dict[str, str]]:
        with (tmp_path / name).open() as file:
            return list(csv.DictReader(file))

    for row, line in zip(rows, read("table.csv"), strict=True):
        assert (line["data"], line["partition"], line["network"]) == row.setting
        assert (line["mechanism"], line["seeds"]) == (row.mechanism, "3")
        values = BEST[row.setting[1]][row.mechanism]
        assert [float(line["best_test"]), float(line["best_test_std"])] == pytest.approx(
            [np.mean(values), np.std(values, ddof=1)]
        )
    for line in read("ranks.csv"):
        assert {key: float(line[key]) for key in ("best_test", "pearson_test", "cgs_test")} == {
            key: ranks[line["mechanism"]][key] for key in ("best_test", "pearson_test", "cgs_test")
        }
    for one, line in zip(comparisons, read("comparison.csv"), strict=True):
        assert (line["metric"], line["mechanism"]) == (one.metric.key, one.mechanism)
        told = [float(line[key]) for key in ("pairs", "difference", "low", "high", "wins", "losses", "p", "p_holm")]
        assert told == [one.pairs, one.difference, *one.interval, one.wins, one.losses, one.p_value, one.adjusted]


def test_the_terminal_tells_who_won_and_how_sure_that_is() -> None:
    rows, comparisons = summarise(results()), compare(results(), "ours")
    output = io.StringIO()
    Console(file=output, width=200).print(ranks_table(rank(rows), comparisons, "ours"))
    lines = {words[0]: words for words in map(str.split, output.getvalue().splitlines()) if words}
    told = [one for one in comparisons if one.metric.key == "best_test"]
    for one in told:
        assert lines[one.mechanism][-2:] == [f"{one.wins}:{one.losses}", f"{one.adjusted:.2g}"]
    assert any(one.wins != one.losses for one in told)
    assert any(f"{one.p_value:.2g}" != f"{one.adjusted:.2g}" for one in told)
