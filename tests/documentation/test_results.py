"""Figures on the pages are those of the rows in docs/results/."""

import csv
import io
import re
from collections import Counter
from contextlib import redirect_stdout

from benchmarks import demonstration, mechanism_means, riders, tasks
from tests.helpers.command import REPOSITORY

PAGE = (REPOSITORY / "docs" / "results.md").read_text()
RESULTS = REPOSITORY / "docs" / "results"


def _rows(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_results_of_the_demonstration() -> None:
    rows = [{key: float(value) for key, value in row.items()} for row in _rows("digits.csv")]
    assert sorted(row["seed"] for row in rows) == [0, 1, 2, 3, 4]
    table = demonstration.table(rows)
    assert table in PAGE
    readme = (REPOSITORY / "README.md").read_text()
    shown = re.findall(r"^\| ([^|]+) \| ([\d.]+) ± ([\d.]+) \|$", readme, re.MULTILINE)
    assert len(shown) > 4
    for figures in shown:
        assert "| {} | {} | {} |".format(*figures) in table, figures


def test_results_of_the_mechanisms() -> None:
    rows = mechanism_means.read(RESULTS / "mechanisms.csv")
    assert len(Counter((row["partition"], row["seed"]) for row in rows)) == 9
    assert mechanism_means.table(rows) in PAGE


def test_results_of_the_tasks() -> None:
    assert tasks.table(tasks.read()) in PAGE


def test_results_of_training_time_rewards() -> None:
    assert mechanism_means.table(mechanism_means.read(RESULTS / "training_time.csv")) in PAGE


def test_results_of_training_time_rewards_on_images() -> None:
    rows = mechanism_means.read(RESULTS / "training_time_images.csv")
    assert mechanism_means.table(rows) in PAGE
    full = {(r["data"], r["partition"], r["mechanism"]): 100 * float(r["best_test"]) for r in rows}
    settings = {key[:2] for key in full}
    gains = [full[*one, "training-adjusted-third"] - full[*one, "training"] for one in settings]
    below = [full[*one, "fedavg"] - full[*one, "training-adjusted-third"] for one in settings]
    after = [full[*one, "fedavg"] - full[*one, "aequa"] for one in settings]
    assert len(settings) == 6
    said = " ".join(PAGE.split())
    assert f"(by {min(gains):.1f} to {max(gains):.1f} points, {sum(gains) / 6:.1f} in the mean)" in said
    assert f"below federated averaging by {min(below):.1f} to {max(below):.1f} points" in said
    assert f"stays below by {min(after):.1f} to {max(after):.1f} points" in said


def test_results_at_full_size() -> None:
    for row in _rows("fashion_mnist.csv"):
        full, mean = (f"{100 * float(row[key]):.1f} %" for key in ("best_test", "mean_test"))
        assert full in PAGE.split("**Fashion-MNIST at full size**")[1].split("## How fast")[0], row["partition"]
        assert mean in PAGE.split("**Fashion-MNIST at full size**")[1].split("## How fast")[0], row["partition"]


def test_rivals_do_as_their_sources() -> None:
    page = (REPOSITORY / "docs" / "mechanisms.md").read_text().split("## Sources")[1].split("\n## ")[0]
    rows = {row["mechanism"]: float(row["difference"]) for row in _rows("rivals.csv")}
    assert len(rows) == 10
    for name, difference in rows.items():
        assert difference < 1e-6
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name.split()[0]}` |")]
        assert f"{difference:.0e}" in line.split("|")[-2], name


def test_results_of_riders() -> None:
    output = io.StringIO()
    with redirect_stdout(output):
        riders.tell(riders.read(RESULTS / "riders.csv"))
    on = output.getvalue().split("Gates on: share")[1]
    shares, caught = (_table(on.split("\n\n")[1]), _table(output.getvalue().split("Accuracy of the full width")[1]))
    # The rows are still growing: this is what the page has to show.
    lines = [
        f"| {kind} | {shares[kind][0]} | {max(shares[kind][1:])} | {caught[kind][2]} |"
        for kind in shares
        if kind != "all"
    ]
    section = PAGE.split("### Does cheating pay?")[1].split("\n### ")[0]
    assert len(lines) == 15
    assert all(line in section for line in lines), "\n".join(lines)


def _table(text: str) -> dict[str, list[str]]:
    """Return the rows of a Markdown table by their first cell, without its head."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {first: others for first, *others in rows[1:]}


def test_networks_that_were_judged() -> None:
    rows = _rows("networks.csv")
    page = (REPOSITORY / "docs" / "networks.md").read_text()
    assert {row["verdict"] for row in rows} == {"right"}
    assert f"all {len(rows)} were right" in page
    claim = f"and {len(rows)} of torchvision, timm and transformers"
    assert claim in (REPOSITORY / "docs" / "what-it-is.md").read_text()
    for source, count in Counter(row["source"] for row in rows).items():
        assert re.search(rf"^- {source}.*\({count}\)", page, re.MULTILINE), source
