"""What-if questions: the page's own computation, in a real browser, against the functions of the package."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from aequa_lightning.errors import InputError
from aequa_lightning.report import build_report, read_run
from aequa_lightning.report.what_if import settle, transfers_table, what_if_data, write_transfers
from aequa_lightning.rewards.allocation.curve import offered_widths
from aequa_lightning.rewards.allocation.deserved import DeservedAccuracy, pay_deserved
from aequa_lightning.rewards.allocation.transfers import transfers
from aequa_lightning.run_folder.csv_files import read_csv
from tests.helpers.fake_run import write_fake_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NAME = "Fran</script>ce-{}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "demo", participants=6, name=NAME)


def test_payments_sum_to_zero_and_their_file_holds_them(folder: Path) -> None:
    run = read_run(folder)
    settlements = settle(run, 10.0)
    rows = read_csv(write_transfers(folder, settlements, 10.0))
    amounts = [float(row["transfer"]) for row in rows]
    assert amounts == [one.transfer for one in settlements]
    assert any(amounts)
    assert sum(amounts) == pytest.approx(0, abs=1e-9)
    assert transfers_table(run, settlements, 10.0).row_count == 6


def test_a_run_that_is_not_paid_by_accuracy_has_no_price(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "run")
    record = copy / "events.jsonl"
    record.write_text(record.read_text().replace('"paid_by": "standalone"', '"paid_by": "cosine"'))
    run = read_run(copy)
    assert what_if_data(run) is None
    with pytest.raises(InputError, match=r"--price.*'cosine'"):
        settle(run, 10.0)


def browse(folder: Path, actions: str) -> list[list[str]]:
    """Open the page in a browser, act on it, and return the rows of the table of models and payments."""
    assert CHROMIUM is not None
    page = folder / "acted.html"
    page.write_text((folder / "report.html").read_text() + f"<script>{actions}</script>")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    section = shown[shown.index('id="what-if"') :]
    rows = re.findall(r'<tr data-who="(\d+)".*?</tr>', section, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr data-who.*?</tr>", section, re.DOTALL)]
    return [[who, *row] for who, row in zip(rows, cells, strict=True)]


def acting(**values: str) -> str:
    """Return a script that sets controls of the page as a hand would."""
    return "".join(
        f"{{const c = document.getElementById('what-if-{name}'); c.value = '{value}';"
        "c.dispatchEvent(new Event('input')); c.dispatchEvent(new Event('change'));}"
        for name, value in values.items()
    )


def number(text: str) -> float:
    return float(re.sub(r"[^\d.\-]", "", text.replace("−", "-")))


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page with")
def test_the_page_computes_what_the_package_computes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aequa_lightning.report.page.drawn", lambda figure, format: b"")
    build_report([folder])
    run = read_run(folder)
    by_number = {one.participant.number: one for one in settle(run, 10.0)}
    for who, alone, width, received, payment, gain in browse(folder, acting(price="10")):
        one = by_number[int(who)]
        assert number(payment) == pytest.approx(one.transfer, abs=0.006)
        assert number(width) == pytest.approx(one.participant.width, abs=1e-4)
        assert number(received) == pytest.approx(100 * one.participant.received, abs=0.06)
        assert number(gain) == pytest.approx(100 * (one.worth - one.participant.standalone), abs=0.06)
        assert number(alone) == pytest.approx(100 * one.participant.standalone, abs=0.06)

    # Another contribution: the nearest width to what is deserved.
    data = what_if_data(run)
    assert data is not None
    assert run.allocation is not None
    contributions = list(data["alone"])
    contributions[2] = 0.9
    curve = offered_widths(run.allocation.accuracy_by_width)
    due = DeservedAccuracy(max(curve.accuracies[-1], *contributions), data["slope"])
    paid = pay_deserved(contributions, run.allocation.accuracy_by_width, due, rounding="nearest", floors=contributions)
    amounts = transfers(contributions, paid.accuracies, standalone=contributions, slope=data["slope"], price=10.0)
    rows = browse(folder, acting(price="10", who="2", brought="90"))
    assert [number(row[2]) for row in sorted(rows)] == pytest.approx(paid.widths.tolist(), abs=1e-4)
    assert [number(row[4]) for row in sorted(rows)] == pytest.approx(amounts.tolist(), abs=0.006)

    # Everybody the full width, with money: a choice made by the exact optimizer beforehand.
    full = browse(folder, acting(models="3"))
    assert {row[2] for row in full} == {"1"}
    assert np.ptp([number(row[4]) for row in full]) == 0
