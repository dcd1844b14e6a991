"""Model cards: what they say, and that nothing else can be in them."""

import re
from typing import Any

import pytest
from scipy.stats import binomtest

from aequa_lightning.contributions.measures import MEASURES
from aequa_lightning.rewards.files.card import CardFacts, TaskFacts, model_card, recorded_facts, wilson_interval

HYPER_PARAMETERS: dict[str, Any] = {
    "num_classes": 3,
    "input_shape": [1, 8, 8],
    "vocabulary_size": None,
    "backbone": "cnn3",
}
ROW: dict[str, Any] = {
    "file": "Leeds.ckpt",
    "participant": "Leeds",
    "width": 0.5,
    "validation_accuracy": 0.875,
    "test_accuracy": 0.75,
    "program": "Leeds.pt2",
}
FACTS = CardFacts(20, "Table", 64, 400, "standalone", "accuracy of training alone", "2.14.1")
TASK = TaskFacts("classes", "accuracy", "%", "aequa_lightning.modules", "RewardClassifier")


def card(facts: CardFacts = FACTS, **changes: Any) -> str:
    options = {key: changes.pop(key) for key in list(changes) if key in HYPER_PARAMETERS}
    task = changes.pop("task", TASK)
    known = {"hyper_parameters": HYPER_PARAMETERS | options, "parameters": 1234, "contribution": 0.81234}
    return model_card(ROW | changes, facts, task=task, **known)


def test_a_score_that_is_no_share_of_samples_has_no_interval() -> None:
    task = TaskFacts("numbers", "R^2", "", "mine", "RewardDenoiser")
    text = card(task=task, num_classes=1)
    assert "A regressor of 1 number for inputs" in text
    assert "| part | R^2 | samples |\n|---|---|---|\n| test | 0.750 | 400 |" in text
    assert "from mine import RewardDenoiser" in text
    assert "Wilson" not in text


@pytest.mark.parametrize(("hits", "samples"), [(0, 20), (7, 9), (300, 400), (400, 400)])
def test_the_interval_is_that_of_scipy(hits: int, samples: int) -> None:
    expected = binomtest(hits, samples).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits / samples, samples) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_card_says_what_the_reward_is_and_how_good() -> None:
    text = card()
    assert text.startswith("# Reward of Leeds\n")
    assert re.findall("^## (.+)$", text, re.M) == [
        *("What it is", "How to load it", "How good it is", "What it was earned by", "What it must not be used for"),
    ]
    assert "`cnn3` at width\n0.5, 1,234 parameters" in text
    assert "| test | 75.0% | 70.5% to 79.0% | 400 |" in text
    assert "A contribution of 0.8123 by the measure `standalone`: accuracy of training alone." in text
    assert "torch.export.load('Leeds.pt2')" in text


@pytest.mark.parametrize(
    ("backbone", "given"), [("cnn3", ""), ("mine:net", ", backbone='mine:net'"), ("<build>", ", backbone=build")]
)
def test_card_names_the_code_that_its_reader_has_to_give(backbone: str, given: str) -> None:
    assert f"load_from_checkpoint('Leeds.ckpt'{given})" in card(backbone=backbone)


def test_the_record_says_what_all_cards_do() -> None:
    events = [
        {"event": "start", "data": {"validation": 9, "test": 8}},
        {"event": "contributions", "paid_by": "cosine"},
        {"event": "contributions", "paid_by": "standalone"},
    ]
    expected = CardFacts(3, "Digits", 9, 8, "standalone", MEASURES["standalone"].meaning, "?")
    assert recorded_facts(3, "Digits", {}, events, sizes=None) == expected
    assert recorded_facts(3, "Digits", {}, events, sizes=(5, 6)).test_samples == 6
    # A record that is not true must not carry anything into a card.
    for changed in ({"paid_by": "1.5, 0.25"}, {"data": {"validation": 10**40, "test": 8}}):
        with pytest.raises((KeyError, ValueError)):
            recorded_facts(3, "Digits", {}, [{**event, **changed} for event in events], sizes=None)
