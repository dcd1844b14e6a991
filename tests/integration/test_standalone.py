"""Runs that differ in how they pay share what participants reach alone."""

from pathlib import Path

from tests.helpers.command import aequa, events, fit


def alone(run_dir: Path) -> list[dict[str, object]]:
    return [{key: value for key, value in event.items() if key != "time"} for event in events(run_dir, "standalone")]


def test_what_participants_reach_alone_is_trained_once() -> None:
    shared = "--trainer.standalone_dir=alone"
    first = fit(Path("first"), shared)
    # Another mechanism and other widths: alone, everybody trains the full width.
    second = fit(Path("second"), shared, "--trainer.mechanism=SharedModel", "--model.widths=[1.0]")
    assert alone(second) == alone(first)  # down to the seconds that it took
    assert not (first / "standalone").exists()
    own = fit(Path("own"))
    assert [{**event, "seconds": 0} for event in alone(own)] == [{**event, "seconds": 0} for event in alone(first)]

    names = {path.name for path in first.rglob("*")}
    assert "report.html" not in names
    assert not any(name.endswith(".pt2") for name in names)
    assert aequa("audit", "--run_dir", first) == 0


def test_false_labels_are_looked_for_by_accuracy_whatever_the_score_is() -> None:
    one = fit(Path("one"), rounds=1, participants=2)
    other = fit(Path("other"), "--model.score=balanced_accuracy", rounds=1, participants=2)
    assert [e["class_accuracy"] for e in alone(one)] == [e["validation_accuracy"] for e in alone(one)]
    assert [e["class_accuracy"] for e in alone(other)] == [e["class_accuracy"] for e in alone(one)]
    assert [e["validation_accuracy"] for e in alone(other)] != [e["validation_accuracy"] for e in alone(one)]
