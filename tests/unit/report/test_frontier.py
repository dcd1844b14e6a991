"""The Pareto front in the terminal and as a picture."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from aequa_lightning.report import front_table, write_front_picture
from aequa_lightning.report.records import Front
from tests.helpers.fake_run import write_fake_run

PAIRS = tuple((0.1 + 0.01 * step, 0.001 * step**2) for step in range(21))


def lines(front: Front) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(front_table(front, rows=5))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("chosen", [PAIRS[0], PAIRS[7], PAIRS[10], PAIRS[20]])
def test_a_point_of_the_front_is_marked_once_in_its_place(chosen: tuple[float, float]) -> None:
    shown = lines(Front(PAIRS, chosen))
    (marked,) = [line for line in shown if "chosen" in line and "+" in line]
    assert marked.split() == [f"+{100 * chosen[0]:.1f}", f"{100 * chosen[1]:.1f}", "<-", "chosen"]
    gains = [float(line.split()[0]) for line in shown if "+" in line]
    assert gains == sorted({*gains})
    assert {10.0, 30.0} <= set(gains)
    assert len(gains) in (5, 6)
    assert "No point of the front is better." in " ".join(shown)


def test_a_point_off_the_front_says_how_far() -> None:
    # At a gain of 0.15 or more, the least spread is 0.025.
    assert "smaller by 1.5 points" in " ".join(lines(Front(PAIRS, (0.145, 0.04))))


def test_no_front_leaves_no_picture_of_an_older_one(tmp_path: Path) -> None:
    write_fake_run(tmp_path, participants=3, rounds=1)
    assert write_front_picture(tmp_path) == tmp_path / "frontier.png"
    path = tmp_path / "frontier.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"front": content["front"][:1]}))
    assert write_front_picture(tmp_path) is None
    assert not (tmp_path / "frontier.png").exists()
