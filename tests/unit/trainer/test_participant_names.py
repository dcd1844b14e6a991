"""Names that become files, and links in run folders: what a run writes stays in its folder, one file for each."""

from pathlib import Path

import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.run_folder.csv_files import read_csv
from aequa_lightning.run_folder.files import refuse_links
from aequa_lightning.trainer.participant_names import check_names
from tests.helpers.command import TOGETHER, aequa, fit, small

BAD = ["../out", "/out", "a/b", "a\\b", "", " ", "x" * 300, "é" * 80, "nul\0", ".", "..", ".lock", "a\nb", "a:b", "-rf"]
BAD += ["CON", "nul.txt", "lpt1", "manifest", "a.", "a ", "\u202eb", "[b]\tx"]


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_the_name_of_a_file_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"data\.names"):
        check_names([name, "b"], 2)


@pytest.mark.parametrize("names", [["a", "a"], ["A", "a"], ["é", "e\u0301"], ["ﬁ", "fi"], ["Straße", "STRASSE"]])
def test_names_that_would_share_a_file_are_refused(names: list[str]) -> None:
    with pytest.raises(InputError, match="would share files"):
        check_names(names, 2)


def test_names_of_people_and_places_are_taken() -> None:
    check_names(["participant-00", "Zürich", "東京", "O'Brien & co", "site 3 (north)"], 5)
    with pytest.raises(InputError, match="holds 1 names for 2 participants"):
        check_names(["a"], 2)


@pytest.mark.parametrize("link", [".lock", "events.jsonl", "metrics.csv", "processes", "checkpoints", "rewards/x.ckpt"])
def test_a_link_in_a_run_folder_is_not_followed(capsys: pytest.CaptureFixture[str], link: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    if "." in link:
        victim.write_text("precious")
    else:
        victim.mkdir()
    place = Path("run") / link
    place.parent.mkdir(parents=True)
    place.symlink_to(victim)
    assert aequa(*small(Path("run")), *TOGETHER) == 2
    assert f"{place} is a link" in capsys.readouterr().err
    assert victim.read_text() == "precious" if victim.is_file() else not any(victim.iterdir())


def test_a_run_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    Path("run").symlink_to(tmp_path / "disk")
    fit(Path("run"), *TOGETHER, rounds=1)
    assert (tmp_path / "disk" / "allocation.json").is_file()
    refuse_links(Path("run"))
    for verb in ("audit", "allocate"):
        assert aequa(verb, "--run_dir", "run") == 0


def test_a_run_shows_any_name_and_obeys_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["=1+1", "[red]a", "'@b", "$x_{$"]
    Path("strangers.py").write_text(
        "from aequa_lightning.data import DigitsData\n\n"
        "class Strangers(DigitsData):\n"
        "    def __init__(self, *args, **options):\n"
        "        super().__init__(*args, **options)\n"
        f"        self.names = {tuple(names)!r}\n"
    )
    monkeypatch.syspath_prepend(".")
    run = Path("[blue]run")
    words = ["--data=strangers.Strangers", "--data.participants=4", "--trainer.report=true"]
    assert aequa(*small(run), "--model.backbone=mlp", "--model.backbone_options={hidden: [16]}", *words) == 0
    assert aequa("allocate", "--run_dir", run) == 0
    assert aequa("audit", "--run_dir", run) == 0
    said = capsys.readouterr().out
    assert said.count("[red]a") == 3
    assert "[blue]run" in said
    text = (run / "contributions.csv").read_text()
    assert "\n'=1+1," in text
    assert "\n''@b," in text
    assert {row["participant"] for row in read_csv(run / "contributions.csv")} == {*names}
    page = (run / "report.html").read_text()
    assert all(name.replace("'", "&#39;") in page for name in names)
