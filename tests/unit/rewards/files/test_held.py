"""The best model of the rounds, against a search over everything that was handed out."""

import random
from itertools import pairwise
from typing import Any

import pytest

from aequa_lightning.rewards.files.audit import held_in_rounds
from aequa_lightning.rewards.files.held import best_held, held_faults, held_figures

GRID = (1.0, 0.5, 0.25)


def record(seed: int) -> list[dict[str, Any]]:
    """Rounds in which some are absent and some drop out; a wider network may be worse."""
    draw = random.Random(seed)
    rounds = []
    for number in range(1, 6):
        people = draw.sample("abcd", draw.randint(1, 4))
        dropped = draw.sample("efg", draw.randint(0, 2))
        rounds.append(
            {
                "event": "round",
                "round": number,
                "participants": [{"name": name, "width": draw.choice((*GRID, 0.6))} for name in people],
                "dropped": dropped,
                "dropped_widths": [draw.choice(GRID) for _ in dropped],
                "validation_accuracy": {f"{width:g}": draw.random() for width in GRID},
            }
        )
    return rounds


@pytest.mark.parametrize("seed", range(20))
def test_the_best_held_is_the_best_of_all_networks_within_what_was_received(seed: int) -> None:
    rounds, found = record(seed), {}
    for before, event in pairwise(rounds):
        rows = [(row["name"], row["width"]) for row in event["participants"]]
        for name, received in rows + list(zip(event["dropped"], event["dropped_widths"], strict=True)):
            for width in GRID:
                if width <= received:
                    accuracy = before["validation_accuracy"][f"{width:g}"]
                    found.setdefault(name, []).append((accuracy, event["round"], width))
    expected = {
        name: dict(zip(("validation_accuracy", "round", "width"), max(models), strict=True))
        for name, models in found.items()
    }
    assert best_held(rounds, last=len(rounds)) == expected
    assert best_held(rounds[1:], last=len(rounds)) == {}
    assert best_held(rounds[:-1], last=len(rounds)) == {}


def test_who_drops_out_has_received_its_width_all_the_same() -> None:
    event = {"event": "round", "participants": [], "dropped": ["b"], "dropped_widths": [0.5]}
    assert held_in_rounds([event]) == {"b": 0.5}


def test_what_can_be_kept_is_the_better_of_reward_and_best_held() -> None:
    held = [
        {"validation_accuracy": 0.9, "round": 3, "width": 1.0},
        {"validation_accuracy": 0.4, "round": 2, "width": 0.5},
    ]
    figures = held_figures([0.3, 0.5], [0.6, 0.7], held, standalone=[0.3, 0.5])
    assert figures == pytest.approx({"mcg": 0.4, "cgs": 0.2, "minimum_gain": 0.2, "pearson": -1.0})
    unknown = held_figures([0.3, 0.5], [0.6, 0.7], held, standalone=None)
    assert unknown == {"mcg": None, "cgs": None, "minimum_gain": None, "pearson": pytest.approx(-1.0)}
    assert held_figures([0.3], [0.6], [None], standalone=[0.3]) is None


def test_a_manifest_that_hides_a_better_model_is_found() -> None:
    true = {"validation_accuracy": 0.9, "round": 3, "width": 1.0}
    rows = [{"participant": "a", "best_held": true}, {"participant": "b", "best_held": None}]
    assert held_faults(rows, {"a": true}) == []
    [fault] = held_faults(rows, {"a": true, "b": true})
    assert fault.startswith("manifest.json, row of b: best_held is None, the rounds say 0.9 in round 3")
