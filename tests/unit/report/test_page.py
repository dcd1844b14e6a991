"""The page: self-contained, complete, honest about what is missing, small."""

import re
import resource
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest

from aequa_lightning.__main__ import main
from aequa_lightning.errors import InputError
from aequa_lightning.report import build_report, read_run
from tests.helpers.fake_run import write_fake_run

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects ids, loaded addresses, section ids and figure labels; fails on tags that do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.sections: list[str] = []
        self.loads: list[str] = []
        self.references: list[str] = []
        self.labels: list[str] = []
        self.who: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.source = path.read_text()
        self.feed(self.source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag not in VOID:
            self._open.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
            if tag == "section":
                self.sections.append(values["id"])
        self.loads += [values[name] for name in ("src", "srcset") if name in values]
        self.loads += [values["href"]] if tag == "link" else []
        self.references += re.findall(r"url\(#([^)]+)\)", " ".join(values.values()))
        self.references += [values["xlink:href"][1:]] if "xlink:href" in values else []
        if tag == "svg":
            assert values["role"] == "img"
            self.labels.append(values["aria-label"])
        if "data-who" in values:
            self.who.append(values["data-who"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"style", "script"}:
            self.text += data


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_fake_run(tmp_path_factory.mktemp("runs") / "demo")
    before = dict(matplotlib.rcParams)
    build_report([folder])
    assert dict(matplotlib.rcParams) == before
    return folder


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the files of the pictures empty: they take longer than the page."""
    monkeypatch.setattr("aequa_lightning.report.page.drawn", lambda figure, format: b"")


def write_started_run(folder: Path) -> Path:
    """Write a run that has recorded its start and nothing else."""
    record = write_fake_run(folder, participants=3, finished=False) / "events.jsonl"
    record.write_text(record.read_text().splitlines()[0] + "\n")
    return folder


def test_page_has_every_section_and_figure(demo: Path) -> None:
    page = Page(demo / "report.html")
    assert page.sections == [
        "fairness", "participants", "curves", "partition", "contributions", "allocation", "what-if", "cost",
        "repeat",
    ]  # fmt: skip
    assert len(page.labels) == 8
    assert all(len(label) > 40 for label in page.labels)
    names = {"fairness", "gains", "accuracy-by-width", "training", "partition", "contributions", "front", "time"}
    assert {p.name for p in (demo / "figures").iterdir()} == {f"{n}.{e}" for n in names for e in ("png", "pdf")}


def test_page_loads_nothing_and_its_ids_are_its_own(demo: Path) -> None:
    page = Page(demo / "report.html")
    assert page.loads == []
    assert "@import" not in page.source
    assert len(page.ids) == len(set(page.ids))
    assert page.references
    assert set(page.references) <= set(page.ids)
    # Colours come from the palette's variables alone, else they would not follow the dark ground.
    assert not re.search(r"(fill|stroke): #", page.source)


def test_figures_and_table_show_the_same_participants(demo: Path) -> None:
    page = Page(demo / "report.html")
    # In the fairness figure twice, in five others once or twice, in four tables.
    assert {page.who.count(str(number)) for number in range(10)} == {12}
    assert page.source.count('<g class="who"') == page.source.count("<title>participant-")


def test_page_tells_the_numbers_of_the_run(demo: Path) -> None:
    run, text = read_run(demo), Page(demo / "report.html").text
    assert run.allocation is not None
    assert run.allocation.pearson is not None
    assert f"{run.allocation.pearson:.3f}" in text
    for p in run.participants:
        assert p.gain is not None
        assert f"{100 * p.gain:+.1f}".replace("-", "−") in text
    assert "Dirichlet(alpha=0.5)" in text
    assert "a remark of the allocator" in text
    assert f"aequa fit --config {demo}/config.yaml --trainer.run_dir {demo}-again" in text


@pytest.mark.usefixtures("no_pictures")
def test_page_of_an_unfinished_payout_says_so_and_nothing_of_gates_that_the_run_did_not_have(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run")
    table = folder / "contributions.csv"
    table.write_text("".join(f"{line.rpartition(',')[0]}\n" for line in table.read_text().splitlines()))
    run = read_run(folder)
    assert run.gates is None
    assert run.scores.keys() == {"standalone", "cosine"}
    (folder / "rewards" / "manifest.json").unlink()
    text = build_report([folder]).read_text()
    assert "No gate caught" not in text
    assert "The payout is unfinished" in text


def test_page_tells_what_the_gates_found_and_how_sure_the_allocation_is(demo: Path) -> None:
    run, text = read_run(demo), Page(demo / "report.html").text
    assert run.gates == {"participant-00": "replay in 3 rounds"}
    assert "replay in 3 rounds" in text
    assert "0.950 to 0.990" in text
    assert "0.4 to 2.1" in text
    assert run.front is not None
    label = next(label for label in Page(demo / "report.html").labels if label.startswith("Pareto front"))
    assert f"{100 * run.front.chosen[0]:+.1f}" in label


def test_pdfs_are_as_wide_as_a_column(demo: Path) -> None:
    for path in (demo / "figures").glob("*.pdf"):
        box = re.search(rb"/MediaBox \[ *0 0 ([\d.]+) ([\d.]+) *\]", path.read_bytes())
        assert box is not None
        assert float(box[1]) == pytest.approx(3.4 * 72)


def test_same_run_gives_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    again = build_report([demo], output=tmp_path / "page.html")
    assert again.read_bytes() == (demo / "report.html").read_bytes()
    for path in (demo / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "figures" / path.name).read_bytes()


@pytest.mark.usefixtures("no_pictures")
def test_undefined_correlation_is_said_and_names_are_escaped(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", participants=3, rounds=1, equal_rewards=True, name="<b>$&$_{}")
    page = Page(build_report([folder]))
    assert "Everybody received the full width" in page.text
    assert "undefined" in page.text
    assert "nan" not in page.text.lower().split()
    assert "<b>" not in page.source
    assert "<b>$&$_0" in page.text


@pytest.mark.usefixtures("no_pictures")
def test_a_stopped_run_gives_a_page_without_rewards(tmp_path: Path) -> None:
    page = Page(build_report([write_fake_run(tmp_path / "run", participants=3, rounds=4, finished=False)]))
    assert page.sections == ["participants", "curves", "partition", "cost", "repeat"]
    assert "Stopped by SIGTERM after round 2 of 4" in page.text
    assert "--ckpt_path last" in page.text


@pytest.mark.usefixtures("no_pictures")
def test_a_run_that_only_started_gives_a_page(tmp_path: Path) -> None:
    page = build_report([write_started_run(tmp_path / "run")])
    assert Page(page).sections == ["participants", "partition", "repeat"]


@pytest.mark.usefixtures("no_pictures")
def test_a_large_run_stays_small(tmp_path: Path) -> None:
    page = build_report([write_fake_run(tmp_path / "run", participants=40, rounds=100, classes=100)])
    assert page.stat().st_size < 3_000_000


@pytest.mark.usefixtures("no_pictures")
def test_comparison_shows_every_run_and_links_to_its_page(demo: Path, tmp_path: Path) -> None:
    other = write_fake_run(tmp_path / "other", participants=3, rounds=2, seed=1)
    stopped = write_fake_run(tmp_path / "stopped", participants=3, rounds=2, finished=False)
    path = build_report([demo, other, stopped], output=tmp_path / "all.html")
    page = Page(path)
    assert {"demo", "other", "stopped"} <= set(re.findall(r"\w+", page.text))
    assert len(page.labels) == 4
    (link,) = re.findall(r'<a href="([^"]+)"', page.source)
    assert (path.parent / link).resolve() == (demo / "report.html").resolve()
    assert len(list((tmp_path / "all-figures").iterdir())) == 8


@pytest.mark.usefixtures("no_pictures")
def test_a_run_without_catches_says_so(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", participants=3, rounds=1)
    table = folder / "contributions.csv"
    table.write_text(table.read_text().replace("replay in 3 rounds", ""))
    assert "No gate caught anybody" in Page(build_report([folder])).text


@pytest.mark.usefixtures("no_pictures")
def test_comparison_lies_beside_the_first_run(tmp_path: Path) -> None:
    runs = [write_started_run(tmp_path / name) for name in "ab"]
    assert build_report(runs) == tmp_path / "comparison-a-vs-b.html"


@pytest.mark.usefixtures("no_pictures")
def test_a_comparison_of_other_runs_is_another_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, three = (str(write_started_run(tmp_path / name)) for name in ("one", "two", "three"))
    elsewhere = str(write_started_run(tmp_path / "elsewhere" / "two"))
    for folders in ((one, two), (one, three), (one, elsewhere), (one, two, three)):
        assert main(["report", *folders]) == 0
    pages = capsys.readouterr().out.split()
    assert len({*pages}) == 4
    assert pages[0] == str(tmp_path / "comparison-one-vs-two.html")
    assert main(["report", "--run_dir", one, two]) == 0
    assert capsys.readouterr().out.split() == pages[:1]
    assert main(["report"]) == 2
    assert "needs a run folder" in capsys.readouterr().err


@pytest.mark.usefixtures("no_pictures")
def test_a_comparison_tells_mechanisms_in_words(tmp_path: Path) -> None:
    runs = [
        write_fake_run(tmp_path / name, participants=2, rounds=1, mechanism=mechanism)
        for name, mechanism in (("a", "Aequa(contribution='standalone', slope='auto')"), ("b", "SharedModel()"))
    ]
    text = Page(build_report(runs)).text
    assert "Aequa: contribution standalone, slope auto" in text
    assert "SharedModel" in text
    assert "contribution=" not in text


def test_nothing_to_report_on_is_refused() -> None:
    with pytest.raises(InputError, match="No run"):
        build_report([])


def test_a_page_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    folder = write_started_run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written .* `aequa report --output`"):
        build_report([folder], output=tmp_path / "file" / "page.html")


@pytest.mark.usefixtures("no_pictures")
def test_a_full_disk_is_told_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_started_run(tmp_path / "run")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, former[1]))
    try:
        status = main(["report", "--run_dir", str(folder)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert status == 1
    told = capsys.readouterr().err
    assert f"{folder}/report.html cannot be written: File too large. Make room and try again." in told
    assert "--output" not in told


def test_neither_torch_nor_pyplot_is_loaded() -> None:
    code = "import sys, aequa_lightning.report; print({'torch', 'lightning', 'matplotlib.pyplot'} & {*sys.modules})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"
